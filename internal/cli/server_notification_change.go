package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/notify"
	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

// noticeExamples are of adding and of changing a target or a matcher.
var noticeExamples = map[string][2]string{
	"gotify": {
		"  holdfast server notification add gotify phone --server https://gotify.example.org",
		"  holdfast server notification update gotify phone --secret",
	},
	"sendmail": {
		"  holdfast server notification add sendmail local --mailto-user root@pam",
		"  holdfast server notification update sendmail local --disable true",
	},
	"smtp": {
		"  holdfast server notification add smtp mail --server mail.example.org --mode starttls --username backup --mailto admin@example.org",
		"  holdfast server notification update smtp mail --secret --port 465 --delete mode",
	},
	"webhook": {
		`  holdfast server notification add webhook chat --url 'https://chat.example.org/{{secrets.key}}' --method post --body '{{message}}' --secret key`,
		"  holdfast server notification update webhook chat --secret key",
	},
	notify.Matcher: {
		"  holdfast server notification add matcher failures --match-severity warning,error --target mail --target chat",
		`  holdfast server notification update matcher failures --match-calendar "mon..fri 8:00-17:00"`,
	},
}

// secretNames are what the one secret of a type is called; those of webhooks have
// names of their own.
var secretNames = map[string]string{"gotify": "token", "smtp": "password", "webhook": "secret"}

// noticeWord names a type for people.
func noticeWord(typ string) string {
	if typ == notify.Matcher {
		return "a matcher"
	}
	return "a target of type " + typ
}

// newServerNoticeCommand adds or changes sections, by a subcommand for each type.
func newServerNoticeCommand(a *app, o *serverOptions, add bool) *cobra.Command {
	verb, at := "update", 1
	if add {
		verb, at = "add", 0
	}
	verbal := strings.ToUpper(verb[:1]) + verb[1:]
	cmd := &cobra.Command{
		Use:     verb,
		Short:   map[bool]string{true: "Add a target or a matcher", false: "Change a target or a matcher"}[add],
		Long:    verbal + "s a target of messages, or a matcher that chooses what goes to them.",
		Example: noticeExamples["gotify"][at],
	}
	if !add {
		cmd.Long = "Changes a target of messages, or a matcher that chooses what goes to them."
	}
	for _, typ := range append(notify.Types(), notify.Matcher) {
		var remove []string
		var secret bool
		var named string
		sub := &cobra.Command{
			Use:     typ + " NAME",
			Short:   map[bool]string{true: "Add ", false: "Change "}[add] + noticeWord(typ),
			Long:    map[bool]string{true: "Adds ", false: "Changes "}[add] + noticeWord(typ) + ". What could not work is refused, and\nchanges nothing.",
			Example: noticeExamples[typ][at],
			Args:    exactly(1),
		}
		values := propertyFlags(sub, readable(notify.Properties(typ)))
		if !add {
			sub.Flags().StringSliceVar(&remove, "delete", nil, "properties that are removed, separated by commas")
		}
		switch typ {
		case "webhook":
			sub.Flags().StringVar(&named, "secret", "", "name of a secret, whose value is asked for, or is in HOLDFAST_NOTIFICATION_SECRET")
		case "smtp", "gotify":
			sub.Flags().BoolVar(&secret, "secret", add && typ == "gotify", "ask for the "+secretNames[typ]+", or take it from HOLDFAST_NOTIFICATION_SECRET")
		}
		sub.RunE = func(cmd *cobra.Command, args []string) error {
			c := notify.Change{Type: typ, Name: args[0], Add: add, Values: encoded(values()), Secrets: property.Values{}}
			for _, key := range remove {
				c.Values[key] = nil
			}
			switch {
			case secret:
				c.Secrets[secretNames[typ]] = []string{""}
			case named != "":
				c.Secrets["secret"] = []string{named}
			case len(c.Values) == 0 && !add:
				return usagef("nothing to change: name properties, or --delete")
			}
			return runServerNoticeChange(cmd.Context(), a, o, c)
		}
		cmd.AddCommand(sub)
	}
	return cmd
}

// readable are properties as people write them: what is base64 in the file is text.
func readable(known []property.Property) []property.Property {
	known = slices.Clone(known)
	for i, p := range known {
		switch p.Key {
		case "header":
			known[i].Help = "a header of the request, as 'Name: value', the value a template"
		case "body":
			known[i].Help = "the body of the request, a template"
		}
	}
	return known
}

// encoded are properties as the file has them.
func encoded(v property.Values) property.Values {
	for i, text := range v["header"] {
		name, value, _ := strings.Cut(text, ":")
		v["header"][i] = keyedText(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	for i, text := range v["body"] {
		v["body"][i] = base64.StdEncoding.EncodeToString([]byte(text))
	}
	return v
}

func keyedText(name, value string) string {
	return sectionconfig.Properties{{Key: "name", Value: name}, {Key: "value", Value: base64.StdEncoding.EncodeToString([]byte(value))}}.String()
}

func runServerNoticeChange(ctx context.Context, a *app, o *serverOptions, c notify.Change) error {
	d, err := o.existing(a)
	if err != nil {
		return err
	}
	if err := a.askSecrets(ctx, d, c); err != nil {
		return err
	}
	if err := c.Apply(ctx, d, notify.Options{}); err != nil {
		return noticeError(err)
	}
	what := map[bool]string{true: "added", false: "changed"}[c.Add]
	return a.print(map[string]string{"name": c.Name, "type": c.Type}, func() error { return a.printf("%s %s %s\n", c.Type, c.Name, what) })
}

// askSecrets puts what a person or the environment says into the secrets of a change.
func (a *app) askSecrets(ctx context.Context, d confdir.Dir, c notify.Change) error {
	for key, list := range c.Secrets {
		name := list[0] // of a webhook's
		s, err := a.secrets().Get(ctx, "NOTIFICATION_SECRET", strings.TrimSpace(key+" "+name)+" of "+c.Name)
		if err != nil {
			return err
		}
		if list[0] = string(s.Reveal()); key != "secret" {
			continue
		}
		list[0] = keyedText(name, list[0])
		b, err := notify.Read(d)
		if err != nil {
			return err
		}
		for _, other := range b.SecretNames(c.Name) { // they keep their values
			if other != name {
				list = append(list, "name="+other)
			}
		}
		c.Secrets[key] = list
	}
	return nil
}

func noticeError(err error) error {
	if errors.Is(err, notify.ErrNotFound) {
		return hint(err, "'holdfast server notification list' shows what there is")
	}
	return err
}

// noticeJSON is a target or a matcher in a listing.
type noticeJSON struct {
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Secrets    []string       `json:"secrets,omitempty"` // what those of a webhook are called
	Properties map[string]any `json:"properties"`
}

func runServerNoticeList(a *app, o *serverOptions) error {
	d, err := o.existing(a)
	if err != nil {
		return err
	}
	b, err := notify.Read(d)
	if err != nil {
		return err
	}
	out := []noticeJSON{}
	t := ui.Table{Columns: []ui.Column{{Title: "NAME"}, {Title: "TYPE"}, {Title: "STATE"}, {Title: "TARGETS"}, {Title: "COMMENT"}}}
	for _, typ := range append(notify.Types(), notify.Matcher) {
		for _, sec := range b.Of(typ) {
			out = append(out, noticeJSON{sec.ID, typ, b.SecretNames(sec.ID), property.Item(sec, notify.Properties(typ))})
			state := "enabled"
			if off, err := sec.Bool("disable", false); err == nil && off {
				state = "disabled"
			}
			comment, _ := sec.Get("comment")
			t.Add(sec.ID, typ, state, join(sec.All("target")), comment)
		}
	}
	return a.print(out, func() error { return a.table(&t) })
}
