package notify

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/mailgun/raymond/v2"

	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
)

// webhook makes a request.
type webhook struct {
	name    string
	method  string
	url     *raymond.Template
	headers []header
	body    *raymond.Template
	secrets map[string]string
	client  *http.Client
}

type header struct {
	name  string
	value *raymond.Template
}

func newWebhook(sec, secrets *sectionconfig.Section, o Options) (Target, error) {
	w := webhook{name: sec.ID, method: http.MethodPost, secrets: map[string]string{}}
	switch method, _ := sec.Get("method"); method {
	case "", "post":
	case "put":
		w.method = http.MethodPut
	case "get":
		w.method = http.MethodGet
	default:
		return nil, fmt.Errorf("method %q: want post, put or get", method)
	}
	text, ok := sec.Get("url")
	if !ok {
		return nil, errors.New("url is missing")
	}
	var err error
	if w.url, err = template(text); err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	body, _ := sec.Get("body")
	plain, err := base64.StdEncoding.DecodeString(body)
	if err != nil {
		return nil, errors.New("body is not in base64")
	}
	if w.body, err = template(string(plain)); err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	for _, text := range sec.All("header") {
		name, value, err := keyed(text)
		if err != nil {
			return nil, fmt.Errorf("header: %w", err)
		}
		t, err := template(value)
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", name, err)
		}
		w.headers = append(w.headers, header{name, t})
	}
	for _, text := range secrets.All("secret") {
		name, value, err := keyed(text)
		if err != nil {
			return nil, fmt.Errorf("secret: %w", err)
		}
		w.secrets[name] = value
	}
	w.client = httpClient(o)
	return w, nil
}

// httpClient makes requests of which none is like the last: no connection is kept.
func httpClient(o Options) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if o.Dial.Dial != nil {
		transport.DialContext = o.Dial.Dial
	}
	if o.Dial.TLS != nil {
		transport.TLSClientConfig = o.Dial.TLS
	}
	transport.DisableKeepAlives = true
	return &http.Client{Transport: transport}
}

// answered makes a request that has to be answered with a status of 2xx.
func answered(ctx context.Context, client *http.Client, req *http.Request) error {
	resp, err := client.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 400)) // for people
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("it answers %s: %s", resp.Status, line(string(said)))
	}
	return nil
}

// keyed reads "name=N,value=BASE64".
func keyed(text string) (name, value string, err error) {
	p, err := sectionconfig.ParseProperties(text, "")
	if err != nil {
		return "", "", err
	}
	name, _ = p.Get("name")
	if name == "" {
		return "", "", errors.New("it has no name")
	}
	v, _ := p.Get("value")
	plain, err := base64.StdEncoding.DecodeString(v)
	if err != nil {
		return "", "", fmt.Errorf("%s is not in base64", name)
	}
	return name, string(plain), nil
}

// template parses a template with our helpers.
func template(text string) (*raymond.Template, error) {
	t, err := raymond.Parse(apart(text))
	if err != nil {
		return nil, err
	}
	t.RegisterHelpers(map[string]any{
		brace: func() raymond.SafeString { return "}" },
		"url-encode": func(s string) raymond.SafeString {
			return raymond.SafeString(strings.ReplaceAll(url.QueryEscape(s), "+", "%20"))
		},
		"escape": func(s string) raymond.SafeString {
			b, err := jsonText(s)
			if err != nil {
				return ""
			}
			return raymond.SafeString(b[1 : len(b)-1])
		},
		"json": func(v any) raymond.SafeString {
			b, err := jsonText(v)
			if err != nil {
				return ""
			}
			return raymond.SafeString(b)
		},
	})
	return t, nil
}

// brace is a helper that writes a closing brace.
const brace = "holdfast-brace"

// apart keeps braces behind a tag away from it: in {"text": {{json message}}} the
// last one is text, which the parser at hand takes for a part of the tag.
func apart(text string) string {
	var b strings.Builder
	for {
		start := strings.Index(text, "{{")
		if start < 0 {
			b.WriteString(text)
			return b.String()
		}
		end := "}}"
		switch rest := text[start:]; {
		case strings.HasPrefix(rest, "{{{"):
			end = "}}}"
		case strings.HasPrefix(rest, "{{!--"):
			end = "--}}"
		}
		n := strings.Index(text[start:], end)
		if n < 0 {
			b.WriteString(text)
			return b.String()
		}
		n += start + len(end)
		b.WriteString(text[:n])
		for text = text[n:]; strings.HasPrefix(text, "}"); text = text[1:] {
			b.WriteString("{{" + brace + "}}")
		}
	}
}

func jsonText(v any) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

// Name is the name of the target.
func (w webhook) Name() string { return w.name }

func (w webhook) Send(ctx context.Context, m Message) error {
	err := w.send(ctx, m)
	if err == nil {
		return nil
	}
	return errors.New(w.mask(err.Error())) // an error with a URL in it may show a secret
}

func (w webhook) mask(text string) string {
	for _, s := range w.secrets {
		if s != "" {
			text = strings.NewReplacer(s, "<secret>", url.QueryEscape(s), "<secret>", url.PathEscape(s), "<secret>").Replace(text)
		}
	}
	return text
}

func (w webhook) send(ctx context.Context, m Message) error {
	data := values(m, w.secrets)
	target, err := w.url.Exec(data)
	if err != nil {
		return fmt.Errorf("url: %w", err)
	}
	body, err := w.body.Exec(data)
	if err != nil {
		return fmt.Errorf("body: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, w.method, target, strings.NewReader(body))
	if err != nil {
		return err
	}
	for _, h := range w.headers {
		v, err := h.value.Exec(data)
		if err != nil {
			return fmt.Errorf("header %s: %w", h.name, err)
		}
		req.Header.Set(h.name, v)
	}
	return answered(ctx, w.client, req)
}

// plain is a text that templates do not escape, and that JSON takes as a text.
type plain = raymond.SafeString

// values are what templates see.
func values(m Message, secrets map[string]string) map[string]any {
	return map[string]any{
		"title": plain(m.Title), "message": plain(m.Text), "severity": plain(m.Severity), "timestamp": m.Time.Unix(),
		"fields": texts(m.Fields), "secrets": texts(secrets),
	}
}

func texts(m map[string]string) map[string]plain {
	out := map[string]plain{}
	for k, v := range m {
		out[k] = plain(v)
	}
	return out
}
