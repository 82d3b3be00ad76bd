package cli

import (
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/paperkey"
	"github.com/spf13/cobra"
)

type paperOptions struct {
	path    string
	subject string
	format  string
}

func newKeyPaperCommand(a *app) *cobra.Command {
	var o paperOptions
	cmd := &cobra.Command{
		Use:   "paperkey [FILE]",
		Short: "Print a key for a sheet of paper",
		Long: `Prints an encryption key file, or a private master key in PEM form, as text or as
an HTML page, with QR codes. The paper opens the backups if the password is
known, or if there is none: keep it where it is safe.`,
		Example: `  holdfast key paperkey > key.txt
  holdfast key paperkey vm.json --output-format html --subject "web server" > key.html
  holdfast key paperkey master-private.pem > master.txt`,
		Args: between(0, 1),
		RunE: func(_ *cobra.Command, args []string) (err error) {
			if o.path, err = a.keyPath(args); err != nil {
				return err
			}
			return runPaper(a, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.subject, "subject", "", "a line that says what the key is for")
	f.StringVar(&o.format, "output-format", "text", "text or html")
	complete(cmd, "output-format", cobra.FixedCompletions([]string{"html", "text"}, noFiles))
	return cmd
}

func runPaper(a *app, o paperOptions) error {
	write := paperkey.Text
	switch o.format {
	case "text":
	case "html":
		write = paperkey.HTML
	default:
		return usagef("unknown --output-format %q: a paper key is text or html", o.format)
	}
	key, err := readKeyFile(o.path)
	if err != nil {
		return err
	}
	if err := write(a.Stdout, key, o.subject); err != nil {
		return fmt.Errorf("%s: %w", o.path, err)
	}
	return nil
}
