package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Reply answers with a result. The error is that of the connection, or of a
// value that has no JSON.
func Reply(w http.ResponseWriter, data any) error {
	return ReplyWith(w, map[string]any{"data": data})
}

// ReplyWith answers with an envelope of the caller's, which has the key "data".
func ReplyWith(w http.ResponseWriter, envelope map[string]any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(envelope); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	w.Header().Set("Content-Type", contentType)
	_, err := w.Write(bytes.TrimRight(b.Bytes(), "\n"))
	return err
}

// Send answers with the bytes of a file. Should writing it fail half way, the
// client sees an answer that is cut short: Send panics with
// http.ErrAbortHandler, which is how net/http is told.
func Send(w http.ResponseWriter, size int64, from io.WriterTo) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	if n, err := from.WriteTo(w); err != nil || n != size {
		panic(http.ErrAbortHandler)
	}
}

// Fail answers with an error.
func Fail(w http.ResponseWriter, err error) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	if e, ok := errors.AsType[*Error](err); ok && e.Kind != "" {
		h.Set(KindHeader, e.Kind)
	}
	w.WriteHeader(StatusOf(err))
	text := err.Error()
	if len(text) < 8 {
		text = "error: " + text
	}
	_, _ = io.WriteString(w, text) // if the client is gone, nobody reads it
}

// Limits of what a client takes from a server, in bytes.
const (
	maxMessage = 64 << 10
	maxAnswer  = 256 << 20 // a listing of a million snapshots
)

// Answer reads the whole answer of a call. A refusal is an *Error. v gets the
// data; nil means that it does not matter.
func Answer(resp *http.Response, v any) error {
	var envelope struct {
		Data json.RawMessage `json:"data"`
	}
	if err := AnswerAll(resp, &envelope); err != nil {
		return err
	}
	if envelope.Data == nil {
		return errors.New("the answer has no data")
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(envelope.Data, v); err != nil {
		return fmt.Errorf("the answer has other data than expected: %w", err)
	}
	return nil
}

// AnswerAll is Answer for calls that answer with more than data: envelope gets
// the whole object.
func AnswerAll(resp *http.Response, envelope any) error {
	if err := Refused(resp); err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if len(b) > maxAnswer {
		return fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return fmt.Errorf("the answer is no JSON but %q: is this a backup server?", resp.Header.Get("Content-Type"))
	}
	if err := json.Unmarshal(b, envelope); err != nil {
		return fmt.Errorf("the answer is no JSON object: %w", err)
	}
	return nil
}

// Refused returns the *Error of an answer that is no success.
func Refused(resp *http.Response) error {
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxMessage))
	text := clean(string(b))
	switch {
	case text == "" && err != nil:
		text = fmt.Sprintf("%s (%v)", resp.Status, err)
	case text == "":
		text = resp.Status
	}
	return &Error{Status: resp.StatusCode, Kind: resp.Header.Get(KindHeader), Text: text}
}

// clean makes one line of what a server says, without control characters.
func clean(s string) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if c < 0x20 || c == 0x7f {
			return ' '
		}
		return c
	}, s))
}
