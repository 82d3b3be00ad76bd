package paperkey

import (
	"fmt"
	"html"
	"io"
	"slices"
	"strings"

	"rsc.io/qr"
)

const htmlHead = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Proxmox Backup Paperkey</title>
<style>
body { background: white; color: black; font-family: sans-serif; }
p { font-size: 12pt; }
pre { font-family: monospace; font-size: 9pt; white-space: pre-wrap; overflow-wrap: anywhere; }
svg { display: block; width: 9cm; height: 9cm; margin: 1cm auto; }
section { break-inside: avoid; }
section + section { break-before: page; }
</style>
</head>
<body>
`

// HTML writes the key, a key file or a private master key in PEM form, as one
// HTML page that needs nothing else and prints well.
func HTML(w io.Writer, key []byte, subject string) error {
	d, err := newDocument(key, subject)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(htmlHead)
	if d.subject != "" {
		fmt.Fprintf(&b, "<p>Subject: %s</p>\n", html.EscapeString(d.subject))
	}
	if d.master {
		err = d.masterHTML(&b)
	} else {
		err = d.section(&b, slices.Concat([]string{beginKey}, d.lines, []string{endKey}), d.lines)
	}
	if err != nil {
		return err
	}
	b.WriteString("</body>\n</html>\n")
	_, err = io.WriteString(w, b.String())
	return err
}

func (d document) masterHTML(b *strings.Builder) error {
	n := 0
	for block := range slices.Chunk(d.lines, htmlBlock) {
		shown := make([]string, len(block))
		for i, line := range block {
			n++
			shown[i] = fmt.Sprintf("%2d: %s", n, line)
		}
		if err := d.section(b, shown, block); err != nil {
			return err
		}
	}
	return nil
}

// section writes one page: the lines to show and the QR code of others.
func (d document) section(b *strings.Builder, shown, coded []string) error {
	c, err := code(coded)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "<section>\n<pre>%s</pre>\n", html.EscapeString(strings.Join(shown, "\n")))
	drawSVG(b, c)
	b.WriteString("</section>\n")
	return nil
}

// drawSVG draws one rectangle for each run of dark modules in a row.
func drawSVG(b *strings.Builder, c *qr.Code) {
	fmt.Fprintf(b, `<svg viewBox="0 0 %d %d" shape-rendering="crispEdges"><path d="`, c.Size, c.Size)
	for y := range c.Size {
		for x := 0; x < c.Size; x++ {
			run := 0
			for c.Black(x+run, y) {
				run++
			}
			if run > 0 {
				fmt.Fprintf(b, "M%d %dh%dv1h-%dz", x, y, run, run)
				x += run
			}
		}
	}
	b.WriteString("\"/></svg>\n")
}
