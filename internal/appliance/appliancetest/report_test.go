package appliancetest

import "testing"

func TestReportKnowsWhoSaidWhat(t *testing.T) {
	text := "\x16=== RUN   TestA\nbefore\n\x16=== RUN   TestA/b/c\nhalf a line\x16=== NAME  TestA\nafter\n" +
		"\x16--- PASS: TestA/b/c (0.00s)\n--- FAIL: TestA (a test may print this)\n\x16--- SKIP: TestA (0.00s)\n\x16=== RUN   TestB\npanic: oh\n"
	r := newReport(nil)
	for i := range len(text) { // pieces of any size
		_, _ = r.Write([]byte{text[i]})
	}
	r.flush()
	for name, want := range map[string]outcome{
		"TestA":     {status: "SKIP"},
		"TestA/b/c": {status: "PASS"},
		"TestB":     {status: ""},
	} {
		got := r.byName[name]
		if got == nil || got.status != want.status {
			t.Errorf("%s: %+v, want status %q", name, got, want.status)
		}
	}
	if out := r.byName["TestA"].output.String(); out != "before\nafter\n--- FAIL: TestA (a test may print this)\n" {
		t.Errorf("TestA said %q", out)
	}
	if out := r.byName["TestA/b/c"].output.String(); out != "half a line" {
		t.Errorf("TestA/b/c said %q", out)
	}
	if p := r.parent("TestA/b/c"); p != "TestA" {
		t.Errorf("parent %q", p)
	}
}
