package paperkey

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"rsc.io/qr"
)

// Text writes the key, a key file or a private master key in PEM form, as plain
// text in UTF-8.
func Text(w io.Writer, key []byte, subject string) error {
	d, err := newDocument(key, subject)
	if err != nil {
		return err
	}
	var b strings.Builder
	if d.subject != "" {
		fmt.Fprintf(&b, "Subject: %s\n\n", d.subject)
	}
	if d.master {
		err = d.masterText(&b)
	} else {
		err = d.keyText(&b)
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, b.String())
	return err
}

func (d document) keyText(b *strings.Builder) error {
	c, err := code(d.lines)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "%s\n%s\n%s\n\n", beginKey, strings.Join(d.lines, "\n"), endKey)
	drawText(b, c)
	return nil
}

func (d document) masterText(b *strings.Builder) error {
	n := 0
	for block := range slices.Chunk(d.lines, textBlock) {
		c, err := code(block)
		if err != nil {
			return err
		}
		for _, line := range block {
			n++
			fmt.Fprintf(b, "%2d: %s\n", n, line)
		}
		b.WriteByte('\n')
		drawText(b, c)
		b.WriteString("\f\n")
	}
	return nil
}

// drawText draws two rows of modules in one row of characters. Dark modules
// are ink, for paper.
func drawText(b *strings.Builder, c *qr.Code) {
	for y := 0; y < c.Size; y += 2 {
		for x := range c.Size {
			switch top, bottom := c.Black(x, y), c.Black(x, y+1); {
			case top && bottom:
				b.WriteRune('█')
			case top:
				b.WriteRune('▀')
			case bottom:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteByte('\n')
	}
}
