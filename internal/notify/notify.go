// Package notify tells people what a server did, as its notifications.cfg says: by
// mail, through sendmail or an SMTP server, on phones through Gotify, and by requests to
// webhooks.
//
// # Files
//
// notifications.cfg has targets and matchers, notifications-priv.cfg the secrets of
// targets, in sections of the same type and id.
//
//	sendmail: NAME   mailto ADDRESS, mailto-user USER, from-address, author
//	smtp: NAME       the same, server, port, mode insecure|starttls|tls (without: tls), username; secret: password
//	gotify: NAME     server; secret: token
//	webhook: NAME    url, method post|put|get, header name=N,value=BASE64, body BASE64; secret: secret name=N,value=BASE64
//	matcher: NAME    match-severity, match-field, match-calendar, mode all|any (without: all), invert-match, target NAME
//
// All take comment and disable. mailto, mailto-user, header, secret, the three that
// match and target may stand several times. A user is one of user.cfg with an
// e-mail address.
//
// # Matchers
//
// A message goes to the targets of all matchers that match it, to each once.
//
//	match-severity info,notice,warning,error,unknown    it is one of them
//	match-field exact:FIELD=A,B                         the field is one of them
//	match-field regex:FIELD=RE                          RE is found in the field
//	match-calendar [WEEKDAYS] 08:00-16:30               it is that time of day
//
// With mode all every line must fit, with any one of them; invert-match turns that
// round. A matcher without lines matches everything. A matcher or target that
// cannot be read is left out, and says why.
//
// # Webhooks
//
// URL, values of headers and body are handlebars templates without escaping, over
// title, message, severity, timestamp (seconds since 1970-01-01 UTC), fields.NAME and
// secrets.NAME, with the helpers url-encode, escape (for inside of a JSON string) and
// json. An answer that is not 2xx is a failure. Values of secrets do not show in errors.
//
// # Source
//
// proxmox-rs: proxmox-notify/src.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
)

// Severity is how bad something is.
type Severity string

// The severities.
const (
	Info    Severity = "info"
	Notice  Severity = "notice"
	Warning Severity = "warning"
	Error   Severity = "error"
	Unknown Severity = "unknown"
)

func parseSeverity(s string) (Severity, error) {
	switch v := Severity(s); v {
	case Info, Notice, Warning, Error, Unknown:
		return v, nil
	}
	return "", fmt.Errorf("%q is no severity", s)
}

// Message is what is told.
type Message struct {
	Severity Severity
	Title    string
	Text     string // plain, of any number of lines
	Time     time.Time
	Fields   map[string]string // type, datastore, hostname, job-id: what matchers look at
}

// Target is where messages go.
type Target interface {
	Name() string
	Send(ctx context.Context, m Message) error
}

// Options are what is the same for all targets. All have defaults.
type Options struct {
	Sendmail string                     // path of the program; default /usr/sbin/sendmail
	Hostname string                     // of this machine; default localhost
	Address  func(userid string) string // e-mail address of a user, "" if there is none
	Dial     Dialer                     // for tests
	Location *time.Location             // of times of day
	Log      *slog.Logger               // who hears of what is left out and of failures
	Sleep    func(context.Context, time.Duration) error
}

// Config is matchers and targets, as they were read.
type Config struct {
	opt      Options
	matchers []matcher
	targets  map[string]Target
	disabled map[string]bool
}

// Load reads the files of a configuration. What cannot be read of them is left out,
// and logged.
func Load(conf confdir.Dir, o Options) (*Config, error) {
	o = o.orDefaults()
	public, err := load(conf, confdir.Notifications)
	if err != nil {
		return nil, err
	}
	private, err := load(conf, confdir.NotifySecrets)
	if err != nil {
		return nil, err
	}
	c := &Config{opt: o, targets: map[string]Target{}, disabled: map[string]bool{}}
	for _, sec := range public.Sections {
		off, err := sec.Bool("disable", false)
		if err == nil && off {
			c.disabled[sec.ID] = true
			continue
		}
		secrets := private.Find(sec.ID)
		if secrets == nil || secrets.Type != sec.Type {
			secrets = &sectionconfig.Section{}
		}
		if err == nil {
			err = c.add(sec, secrets)
		}
		if err != nil {
			o.Log.Warn("a part of the notifications is left out", "type", sec.Type, "name", sec.ID, "error", err)
		}
	}
	return c, nil
}

func load(conf confdir.Dir, file confdir.File) (*sectionconfig.File, error) {
	text, err := conf.Load(file)
	if err != nil {
		return nil, err
	}
	f, err := sectionconfig.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file.Name, err)
	}
	return f, nil
}

func (o Options) orDefaults() Options {
	if o.Sendmail == "" {
		o.Sendmail = "/usr/sbin/sendmail"
	}
	if o.Hostname == "" {
		o.Hostname = "localhost"
	}
	if o.Address == nil {
		o.Address = func(string) string { return "" }
	}
	if o.Location == nil {
		o.Location = time.Local
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Sleep == nil {
		o.Sleep = cancel.Sleep
	}
	return o
}

func (c *Config) add(sec, secrets *sectionconfig.Section) error {
	if sec.Type == Matcher {
		m, err := parseMatcher(sec)
		if err == nil {
			c.matchers = append(c.matchers, m)
		}
		return err
	}
	t, err := newTarget(sec, secrets, c.opt)
	if err == nil {
		c.targets[sec.ID] = t
	}
	return err
}

// newTarget makes a target of its section and its secrets.
func newTarget(sec, secrets *sectionconfig.Section, o Options) (Target, error) {
	switch sec.Type {
	case "sendmail":
		return newSendmail(sec, o)
	case "smtp":
		return newSMTP(sec, secrets, o)
	case "gotify":
		return newGotify(sec, secrets, o)
	case "webhook":
		return newWebhook(sec, secrets, o)
	}
	return nil, errors.New("this kind is not known here")
}

// Targets lists where a message goes, in the order of the matchers.
func (c *Config) Targets(m Message) []Target {
	var list []Target
	seen := map[string]bool{}
	for _, one := range c.matchers {
		if !one.matches(m, c.opt.Location) {
			continue
		}
		for _, name := range one.targets {
			if seen[name] {
				continue
			}
			seen[name] = true
			t := c.targets[name]
			if t == nil && !c.disabled[name] {
				c.opt.Log.Warn("a matcher of the notifications names a target that is not there", "matcher", one.name, "target", name)
			}
			if t != nil {
				list = append(list, t)
			}
		}
	}
	return list
}

// Find returns a target.
func (c *Config) Find(name string) (Target, bool) {
	t, ok := c.targets[name]
	return t, ok
}

// timeout is how long a target may take; pauses come before further tries.
const timeout = time.Minute

var pauses = []time.Duration{10 * time.Second, time.Minute, 5 * time.Minute}

// Send tells a message to all whom it concerns, one after the other, and tries again
// where that fails. What remains is logged and returned.
func (c *Config) Send(ctx context.Context, m Message) error {
	return c.sendTo(ctx, c.Targets(m), m)
}

// Mail tells a message to one user by sendmail, whatever the matchers say.
func (c *Config) Mail(ctx context.Context, user string, m Message) error {
	t, err := newSendmail(&sectionconfig.Section{
		Type: "sendmail", ID: "mail to " + user, Props: []sectionconfig.Property{{Key: "mailto-user", Value: user}},
	}, c.opt)
	if err != nil {
		return err
	}
	return c.sendTo(ctx, []Target{t}, m)
}

func (c *Config) sendTo(ctx context.Context, list []Target, m Message) error {
	var errs []error
	for _, t := range list {
		if err := c.send(ctx, t, m); err != nil {
			c.opt.Log.Error("a notification was not sent", "target", t.Name(), "title", m.Title, "error", err)
			errs = append(errs, fmt.Errorf("%s: %w", t.Name(), err))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) send(ctx context.Context, t Target, m Message) error {
	for try := 0; ; try++ {
		err := func() error {
			ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("it took longer than %v", timeout))
			defer cancel()
			return t.Send(ctx, m)
		}()
		if err == nil || ctx.Err() != nil || try == len(pauses) {
			return err
		}
		if serr := c.opt.Sleep(ctx, pauses[try]); serr != nil {
			return err
		}
	}
}

// line is text that fits into one line of a header.
func line(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
}
