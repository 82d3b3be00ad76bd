package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
)

// gotify gives messages to a Gotify server, which shows them on phones.
type gotify struct {
	name   string
	server string // its address, without /message
	token  string
	client *http.Client
}

// priorities are what phones make noises for.
var priorities = map[Severity]int{Info: 1, Notice: 3, Warning: 5, Error: 9, Unknown: 3}

func newGotify(sec, secrets *sectionconfig.Section, o Options) (Target, error) {
	server, _ := sec.Get("server")
	if err := isURL(server); err != nil {
		return nil, fmt.Errorf("server %q: %w", server, err)
	}
	token, _ := secrets.Get("token")
	if token == "" {
		return nil, errors.New("token is missing")
	}
	return gotify{sec.ID, strings.TrimRight(server, "/"), token, httpClient(o)}, nil
}

// isURL accepts addresses of HTTP.
func isURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("want http:// or https:// and a host")
	}
	return nil
}

// Name is the name of the target.
func (g gotify) Name() string { return g.name }

func (g gotify) Send(ctx context.Context, m Message) error {
	body, err := json.Marshal(map[string]any{
		"title": m.Title, "message": m.Text, "priority": priorities[m.Severity],
		"extras": map[string]any{"client::display": map[string]string{"contentType": "text/plain"}},
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.server+"/message", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+g.token)
	return answered(ctx, g.client, req)
}
