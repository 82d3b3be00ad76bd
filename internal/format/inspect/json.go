package inspect

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/holdfast-backup/holdfast/internal/format/canonjson"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
)

// maxJSON is the longest JSON text that is taken apart, as long as the longest
// manifest.
const maxJSON = manifest.MaxSize

func looksLikeJSON(b []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{"))
}

func (d *dump) plainJSON([]byte) error {
	if d.size > maxJSON {
		d.put(Field{Name: "json", Problem: fmt.Sprintf("longer than %d bytes", int64(maxJSON))})
		return nil
	}
	b, err := d.read(0, d.size)
	if err != nil {
		return err
	}
	d.json(0, b)
	return nil
}

// json says what a JSON text is, and shows it without secrets.
func (d *dump) json(off int64, b []byte) {
	if len(b) > maxJSON {
		d.put(Field{Offset: off, Name: "json", Problem: fmt.Sprintf("longer than %d bytes", int64(maxJSON))})
		return
	}
	v, err := canonjson.Parse(b)
	if err != nil {
		d.put(Field{Offset: off, Name: "json", Problem: err.Error()})
		return
	}
	name, problem := "json", ""
	obj, ok := v.(map[string]any)
	if ok {
		name, problem = describe(obj, b)
	}
	text, err := canonjson.AppendIndent(nil, v)
	if err != nil {
		d.put(Field{Offset: off, Name: name, Problem: err.Error()})
		return
	}
	d.put(Field{Offset: off, Name: name, Value: "\n" + quoteControls(string(text)), Problem: problem})
}

// describe names the object and takes the secret out of a key file.
func describe(obj map[string]any, b []byte) (name, problem string) {
	has := func(keys ...string) bool {
		return !slices.ContainsFunc(keys, func(k string) bool { _, ok := obj[k]; return !ok })
	}
	switch {
	case has("kdf", "data"):
		return "key file", redactKey(obj)
	case has("backup-type", "backup-id"):
		if _, err := manifest.Parse(b); err != nil {
			return "manifest", err.Error()
		}
		return "manifest", ""
	case has("index-file-count"):
		return "status of a garbage collection", ""
	}
	return "json", ""
}

// redactKey replaces the key by its length. A key file without a password
// holds the raw key, and no dump may carry that.
func redactKey(obj map[string]any) (problem string) {
	data, _ := obj["data"].(string)
	raw, err := base64.StdEncoding.DecodeString(data)
	want, what := 32, "the key itself, unprotected"
	if obj["kdf"] != nil {
		want, what = 64, "IV, tag and the key, sealed with a password"
	}
	switch {
	case err != nil:
		problem = "data is not base64"
	case len(raw) != want:
		problem = fmt.Sprintf("data has %d bytes, not %d", len(raw), want)
	}
	obj["data"] = fmt.Sprintf("(%d bytes not shown: %s)", len(raw), what)
	return problem
}

// quoteControls shows what JSON strings may hold literally and a terminal
// would obey.
func quoteControls(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == '\n' || unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		fmt.Fprintf(&b, `\u%04x`, r)
	}
	return b.String()
}
