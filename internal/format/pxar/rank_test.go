package pxar

import (
	"encoding/json"
	"os"
	"strconv"
	"testing"
)

func TestTableOrderIsThatOfTheVector(t *testing.T) {
	b, err := os.ReadFile("testdata/goodbye-bst.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct{ Order map[string][]int }
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Order) < 30 {
		t.Fatalf("%d orders", len(v.Order))
	}
	for text, order := range v.Order {
		n, err := strconv.Atoi(text)
		if err != nil || n != len(order) {
			t.Fatalf("%s: %d, %v", text, len(order), err)
		}
		for i, want := range order {
			if got := rank(i, n); got != want {
				t.Errorf("%d items: slot %d holds %d, want %d", n, i, got, want)
			}
		}
	}
}
