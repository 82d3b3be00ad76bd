package cli

import (
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/ui"
)

// app is the world and the flags that every command has.
type app struct {
	Env
	repository   string
	namespace    string
	outFormat    string
	progress     bool
	showRequests bool
	sync         datastore.SyncLevel // "" is the default; only backup sets it
	buckets      *openBuckets
	fresh        bool          // read what is stored, not what is kept of it: commands that judge it set this
	given        repo.Snapshot // the one that is meant, open already, in no repository; nil: those that are named

	// From the above, when a command starts.
	format ui.Format
	ns     names.Namespace
}

// prepare checks the common flags.
func (a *app) prepare() (err error) {
	a.format = ui.Text // so that an error about the format has one
	f, err := ui.ParseFormat(a.outFormat)
	if err != nil {
		return usage(err)
	}
	a.format = f
	a.ns, err = names.ParseNamespace(strings.Trim(a.namespace, "/"))
	if err != nil {
		return usage(fmt.Errorf("--ns: %w", err))
	}
	return nil
}

// print writes a result: v as JSON, or what text prints.
func (a *app) print(v any, text func() error) error {
	var err error
	if a.format.IsJSON() {
		err = a.format.WriteJSON(a.Stdout, v)
	} else {
		err = text()
	}
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// table writes a table to standard output.
func (a *app) table(t *ui.Table) error {
	return t.Write(a.Stdout, a.palette(a.Stdout))
}

// printf writes one line of a text result.
func (a *app) printf(format string, args ...any) error {
	_, err := fmt.Fprint(a.Stdout, ui.CleanText(fmt.Sprintf(format, args...)))
	return err
}

// say tells people on standard error what happened.
func (a *app) say(format string, args ...any) {
	_, _ = fmt.Fprintln(a.Stderr, ui.CleanText(fmt.Sprintf(format, args...)))
}

// warn is say for what went wrong but did not stop the command.
func (a *app) warn(format string, args ...any) {
	p := a.palette(a.Stderr)
	_, _ = fmt.Fprintln(a.Stderr, p.Yellow("warning:")+" "+ui.CleanText(fmt.Sprintf(format, args...)))
}

func (a *app) palette(w any) ui.Palette {
	return ui.NewPalette(w, func(name string) string { return a.getenv(name) })
}

// secrets finds passwords.
func (a *app) secrets() secret.Source {
	return secret.Source{Lookup: a.LookupEnv, Asker: a.Asker}
}

// meter starts to show progress.
func (a *app) meter(title string, unit ui.Unit) ui.Progress {
	return ui.NewProgress(ui.ProgressOptions{Out: a.Stderr, Title: title, Unit: unit, Force: a.progress, Now: a.Now})
}

// join is strings.Join with ", ".
func join[S ~string](list []S) string {
	var b strings.Builder
	for i, s := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(s))
	}
	return b.String()
}

// amount is bytes of a kind.
type amount struct {
	bytes int64
	word  string
}

// amounts is "1.5 GiB new, 2 GiB known", without what there is nothing of.
func amounts(list ...amount) string {
	var parts []string
	for _, a := range list {
		if a.bytes > 0 {
			parts = append(parts, ui.Rough(a.bytes)+" "+a.word)
		}
	}
	return join(parts)
}

// plural is "1 snapshot", "2 snapshots", "2 directories".
func plural[N int | int64](n N, word string) string {
	if n == 1 {
		return "1 " + word
	}
	if stem, ok := strings.CutSuffix(word, "y"); ok {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, word)
}
