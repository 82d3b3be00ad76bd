package notify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
)

// letter is what all mails of a target have in common.
type letter struct {
	name  string
	from  mail.Address
	to    []string
	users []string
	opt   Options
}

func newLetter(sec *sectionconfig.Section, o Options) (letter, error) {
	l := letter{name: sec.ID, opt: o, users: sec.All("mailto-user")}
	for _, s := range sec.All("mailto") {
		a, err := mail.ParseAddress(s)
		if err != nil {
			return l, fmt.Errorf("mailto %q: %w", s, err)
		}
		l.to = append(l.to, a.Address)
	}
	if len(l.to)+len(l.users) == 0 {
		return l, errors.New("nobody is to get it: mailto and mailto-user are missing")
	}
	from, ok := sec.Get("from-address")
	if !ok {
		from = "root@" + o.Hostname
	}
	a, err := mail.ParseAddress(from)
	if err != nil {
		return l, fmt.Errorf("from-address %q: %w", from, err)
	}
	l.from.Address = a.Address
	if l.from.Name, ok = sec.Get("author"); !ok {
		l.from.Name = "Holdfast (" + o.Hostname + ")"
	}
	l.from.Name = line(l.from.Name)
	return l, nil
}

// Name is the name of the target.
func (l letter) Name() string { return l.name }

// recipients are the addresses, those of users as they are now.
func (l letter) recipients() ([]string, error) {
	list := slices.Clone(l.to)
	for _, u := range l.users {
		text := l.opt.Address(u)
		if text == "" {
			continue
		}
		if a, err := mail.ParseAddress(text); err == nil {
			list = append(list, a.Address)
		}
	}
	slices.Sort(list)
	if list = slices.Compact(list); len(list) == 0 {
		return nil, fmt.Errorf("none of the users %s has an e-mail address", strings.Join(l.users, ", "))
	}
	return list, nil
}

// write makes the mail, with lines that end in CRLF.
func (l letter) write(m Message, to []string) ([]byte, error) {
	var b bytes.Buffer
	header := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	header("From", l.from.String())
	header("To", strings.Join(to, ",\r\n "))
	header("Subject", mime.QEncoding.Encode("utf-8", line(m.Title)))
	header("Date", m.Time.In(l.opt.Location).Format(time.RFC1123Z))
	id := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%s\n%s", l.name, m.Time.UnixNano(), m.Title, m.Text))
	header("Message-ID", fmt.Sprintf("<%x@%s>", id[:16], l.opt.Hostname))
	header("Auto-Submitted", "auto-generated")
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	q := quotedprintable.NewWriter(&b)
	text := strings.ReplaceAll(strings.ToValidUTF8(m.Text, "?"), "\r\n", "\n")
	if _, err := q.Write([]byte(strings.ReplaceAll(text, "\n", "\r\n"))); err != nil {
		return nil, err
	}
	if err := q.Close(); err != nil {
		return nil, err
	}
	b.WriteString("\r\n")
	return b.Bytes(), nil
}

// sendmail hands mails to the program of that name.
type sendmail struct{ letter }

func newSendmail(sec *sectionconfig.Section, o Options) (Target, error) {
	l, err := newLetter(sec, o)
	return sendmail{l}, err
}

func (s sendmail) Send(ctx context.Context, m Message) error {
	to, err := s.recipients()
	if err != nil {
		return err
	}
	text, err := s.write(m, to)
	if err != nil {
		return err
	}
	args := append([]string{"-B", "8BITMIME", "-f", s.from.Address, "--"}, to...)
	cmd := exec.CommandContext(ctx, s.opt.Sendmail, args...)
	cmd.Stdin = bytes.NewReader(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		said := line(string(out[:min(len(out), 400)]))
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("sendmail: %w: %s", err, said)
	}
	return nil
}
