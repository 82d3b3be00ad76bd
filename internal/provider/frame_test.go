package provider

import (
	"bufio"
	"bytes"
	"testing"
)

func FuzzFrameSurvivesARoundTrip(f *testing.F) {
	f.Add([]byte{'M', 2, 0, 0, 0, 'a', 'b', 'E', 0, 0, 0, 0})
	f.Add([]byte{'M', 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bufio.NewReader(bytes.NewReader(b))
		var again []byte
		for {
			kind, payload, err := readFrame(in, nil)
			if err != nil {
				break
			}
			if again, err = appendFrame(again, kind, payload); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(b, again) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}
