package s3_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/objtest/gateway"
	"github.com/holdfast-backup/holdfast/internal/objstore/s3"
)

func TestABodyThatWasDamagedOnItsWayIsRefused(t *testing.T) {
	g := gateway.Start(t)
	at := g.Bucket(t, "checksums", false)
	to, err := url.Parse(g.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var damage bool
	front := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // it is signed
		if damage && r.In.Method == http.MethodPut {
			b, err := io.ReadAll(r.In.Body)
			if err != nil {
				t.Error(err)
			}
			b[len(b)/2] ^= 1
			r.Out.Body = io.NopCloser(bytes.NewReader(b))
		}
	}})
	t.Cleanup(front.Close)
	at.Endpoint = strings.TrimPrefix(front.URL, "http://")
	for _, md5 := range []bool{false, true} {
		at.MD5 = md5
		s, err := s3.Open(at, s3.Options{AccessKey: gateway.AccessKey, SecretKey: gateway.SecretKey})
		if err != nil {
			t.Fatal(err)
		}
		body := strings.NewReader(strings.Repeat("what is stored ", 10_000))
		damage = false
		if _, err := s.Put(t.Context(), "x", body, objstore.PutOptions{}); err != nil {
			t.Errorf("md5 %v: %v", md5, err)
		}
		damage = true
		if _, err := s.Put(t.Context(), "y", body, objstore.PutOptions{}); err == nil {
			t.Errorf("md5 %v: the engine took a damaged body", md5)
		}
		if _, err := s.Stat(t.Context(), "y"); !errors.Is(err, objstore.ErrNotFound) {
			t.Errorf("md5 %v: after a refusal: %v", md5, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
