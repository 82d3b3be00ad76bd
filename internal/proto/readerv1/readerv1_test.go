package readerv1

import (
	"net/url"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
)

func TestCallsAreReadAsTheyAreWritten(t *testing.T) {
	if name, err := ParseDownload(rest.Values(DownloadValues("drive-scsi0.img.fidx"))); err != nil || name != "drive-scsi0.img.fidx" {
		t.Errorf("%q, %v", name, err)
	}
	d := digest.Of([]byte("hello\n"))
	if got, err := ParseChunk(rest.Values(ChunkValues(d))); err != nil || got != d {
		t.Errorf("%s, %v", got, err)
	}
}

func FuzzCalls(f *testing.F) {
	f.Add("file-name=index.json.blob&digest=5891")
	f.Add("file-name=..%2Fx.blob")
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		if name, err := ParseDownload(rest.Values(q)); err == nil && (strings.ContainsAny(string(name), "/\\\x00") || strings.HasPrefix(string(name), ".")) {
			t.Fatalf("takes the name %q", name)
		}
		if d, err := ParseChunk(rest.Values(q)); err == nil {
			if again, err := ParseChunk(rest.Values(ChunkValues(d))); err != nil || again != d {
				t.Fatalf("%s reads as %s, %v", d, again, err)
			}
		}
	})
}
