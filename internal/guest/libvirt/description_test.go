package libvirt_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/guest/libvirt"
)

const description = `{"version":1,"kind":"libvirt","name":"web","uuid":"u","running":true,"definition":"domain.xml.blob",
"disks":[{"target":"vda","archive":"drive-vda.img.fidx","kind":"file","path":"/a","format":"qcow2","size":1}],"files":{"nvram":"nvram.fd.blob"}}`

func TestDescriptionsOfOtherKindsAreRefused(t *testing.T) {
	for _, text := range []string{"", "[]", "{}", `{"version":2,"kind":"libvirt"}`, `{"version":1,"kind":"qemu"}`} {
		if _, err := libvirt.ParseDescription([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func FuzzDescription(f *testing.F) {
	f.Add([]byte(description))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := libvirt.ParseDescription(text)
		if err != nil {
			return
		}
		b, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		again, err := libvirt.ParseDescription(b)
		if diff := cmp.Diff(d, again); err != nil || diff != "" && len(d.Files)+len(d.Disks) > 0 {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}
