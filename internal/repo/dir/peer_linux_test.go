package dir

import "testing"

func TestDatastoreOfADirectoryIsFoundInTheServersConfiguration(t *testing.T) {
	const config = "datastore: first\n\tcomment path /not/this\n\tpath /mnt/first\n\ndatastore: second\n\tpath /mnt/second/\n\tgc-schedule daily\n"
	for _, tc := range []struct {
		dir, want string
	}{
		{"/mnt/first", "first"},
		{"/mnt/second", "second"},
		{"/not/this", ""},
		{"/mnt", ""},
	} {
		got, ok := storeAt(config, tc.dir)
		if got != tc.want || ok != (tc.want != "") {
			t.Errorf("datastore at %s: %q, %v; want %q", tc.dir, got, ok, tc.want)
		}
	}
}
