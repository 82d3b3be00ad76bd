//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "writer: it runs in a Linux guest")
	os.Exit(1)
}
