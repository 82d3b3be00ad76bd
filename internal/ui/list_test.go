package ui

import (
	"bytes"
	"errors"
	"testing"
)

func TestListsLookAsIfWrittenAtOnce(t *testing.T) {
	type value struct {
		Name string   `json:"name"`
		More []string `json:"more,omitempty"`
	}
	all := []value{{Name: "<a>"}, {Name: "b", More: []string{"x", "y"}}, {Name: "c"}}
	for _, f := range []Format{JSON, JSONPretty} {
		for n := range len(all) + 1 {
			var want, got bytes.Buffer
			if err := f.WriteJSON(&want, all[:n]); err != nil {
				t.Fatal(err)
			}
			l := f.NewList(&got)
			for _, v := range all[:n] {
				if err := l.Add(v); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Close(); err != nil || got.String() != want.String() {
				t.Errorf("%s, %d values: %v\n%s\nwant\n%s", f, n, err, &got, &want)
			}
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestListsEndWithTheirWriter(t *testing.T) {
	broken := errors.New("disk gone")
	l := JSON.NewList(failing{broken})
	for range 2 {
		if err := l.Add(1); !errors.Is(err, broken) {
			t.Errorf("Add: %v", err)
		}
	}
	if err := l.Close(); !errors.Is(err, broken) {
		t.Errorf("Close: %v", err)
	}
}
