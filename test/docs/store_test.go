package docs_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/objstore/objtest/gateway"
)

// objectStore is an engine with the buckets that a page names, in lines as
// <!-- bucket: NAME -->, or <!-- bucket with object lock: NAME -->. What the page calls
// storeInPages is asked at the address of the engine.
type objectStore struct{ endpoint string }

const storeInPages = "https://storage.example:9000"

var bucketOfPage = regexp.MustCompile(`^<!-- bucket( with object lock)?: (.*) -->$`)

// storeOf starts what a page needs, if it needs any.
func storeOf(t *testing.T, lines []string) (o objectStore) {
	t.Helper()
	var g *gateway.Gateway
	for _, line := range lines {
		m := bucketOfPage.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if g == nil {
			g = gateway.Start(t)
			o.endpoint = g.Endpoint
		}
		g.Bucket(t, m[2], m[1] != "")
	}
	return o
}

// env has the keys of the engine.
func (o objectStore) env() []string {
	if o.endpoint == "" {
		return nil
	}
	return []string{"HOLDFAST_S3_ACCESS_KEY=" + gateway.AccessKey, "HOLDFAST_S3_SECRET_KEY=" + gateway.SecretKey}
}

// real is a command with the address of the engine, shown is output without it.
func (o objectStore) real(text string) string {
	if o.endpoint == "" {
		return text
	}
	return strings.ReplaceAll(text, storeInPages, o.endpoint)
}

func (o objectStore) shown(text string) string {
	if o.endpoint == "" {
		return text
	}
	return strings.ReplaceAll(text, o.endpoint, storeInPages)
}
