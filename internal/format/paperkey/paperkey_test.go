package paperkey_test

import (
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"html"
	"image"
	"image/color"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
	"github.com/holdfast-backup/holdfast/internal/format/paperkey"
)

// keyFile returns a key file with a hint that HTML and JSON escape.
func keyFile(t testing.TB) []byte {
	t.Helper()
	k, err := chunkcrypt.New([32]byte{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	text, err := keyfile.Create(k, keyfile.KDFScrypt, []byte("correct horse"), `<b>&"`, time.Unix(1717597476, 0).UTC(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// masterPEM returns something that looks like an encrypted private key of the
// given size in bytes.
func masterPEM(size int) []byte {
	der := make([]byte, size)
	for i := range der {
		der[i] = byte(i * i)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der})
}

func pretty(t testing.TB, key []byte) string {
	t.Helper()
	f, err := keyfile.Parse(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := f.MarshalIndent()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTextOfAKeyHoldsItTwice(t *testing.T) {
	key := keyFile(t)
	out := write(t, paperkey.Text, key, "storage of pve-1")
	body := "Subject: storage of pve-1\n\n-----BEGIN PROXMOX BACKUP KEY-----\n" + pretty(t, key) + "\n-----END PROXMOX BACKUP KEY-----\n\n"
	if !strings.HasPrefix(out, body) {
		t.Errorf("got %s", out)
	}
	if got := scan(t, textModules(strings.TrimPrefix(out, body))); got != pretty(t, key) {
		t.Errorf("the QR code holds %q", got)
	}
}

func TestHTMLOfAKeyHoldsItTwice(t *testing.T) {
	key := keyFile(t)
	out := write(t, paperkey.HTML, key, `<script>"&`)
	if strings.Contains(out, "<script>") || !strings.Contains(out, "<p>Subject: &lt;script&gt;&#34;&amp;</p>") {
		t.Errorf("subject in %s", out)
	}
	if want := "-----BEGIN PROXMOX BACKUP KEY-----\n" + pretty(t, key) + "\n-----END PROXMOX BACKUP KEY-----"; !slices.Equal(preBlocks(out), []string{want}) {
		t.Errorf("text %q", preBlocks(out))
	}
	codes := svgModules(t, out)
	if len(codes) != 1 {
		t.Fatalf("%d QR codes", len(codes))
	}
	if got := scan(t, codes[0]); got != pretty(t, key) {
		t.Errorf("the QR code holds %q", got)
	}
	if strings.Contains(out, "src=") || strings.Contains(out, "http") {
		t.Error("the page refers to something outside")
	}
}

func TestMasterKeyIsSplitIntoBlocks(t *testing.T) {
	key := masterPEM(2500)
	lines := strings.Split(strings.TrimSpace(string(key)), "\n")
	numbered := make([]string, len(lines))
	for i, line := range lines {
		numbered[i] = fmt.Sprintf("%2d: %s", i+1, line)
	}
	t.Run("text", func(t *testing.T) {
		out := write(t, paperkey.Text, key, "")
		pages := strings.Split(strings.TrimSuffix(out, "\f\n"), "\f\n")
		i := 0
		for block := range slices.Chunk(lines, 5) {
			head := strings.Join(numbered[5*i:5*i+len(block)], "\n") + "\n\n"
			if !strings.HasPrefix(pages[i], head) {
				t.Fatalf("page %d is %s", i, pages[i])
			}
			if got := scan(t, textModules(strings.TrimPrefix(pages[i], head))); got != strings.Join(block, "\n") {
				t.Errorf("QR code %d holds %q", i, got)
			}
			i++
		}
		if len(pages) != i {
			t.Errorf("%d pages, want %d", len(pages), i)
		}
	})
	t.Run("html", func(t *testing.T) {
		out := write(t, paperkey.HTML, key, "")
		texts, codes := preBlocks(out), svgModules(t, out)
		i := 0
		for block := range slices.Chunk(lines, 20) {
			if texts[i] != strings.Join(numbered[20*i:20*i+len(block)], "\n") {
				t.Errorf("text %d is %q", i, texts[i])
			}
			if got := scan(t, codes[i]); got != strings.Join(block, "\n") {
				t.Errorf("QR code %d holds %q", i, got)
			}
			i++
		}
		if len(texts) != i || len(codes) != i || strings.Contains(out, "Subject") {
			t.Errorf("%d texts, %d codes, want %d", len(texts), len(codes), i)
		}
	})
}

func TestLineEndsOfOtherSystemsAreAccepted(t *testing.T) {
	key := masterPEM(2500)
	dos := strings.ReplaceAll(string(key), "\n", "\r\n")
	if write(t, paperkey.Text, []byte(dos), "") != write(t, paperkey.Text, key, "") {
		t.Error("another document")
	}
}

func TestOtherInputIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name, subject string
		key           []byte
	}{
		{"nothing", "", nil},
		{"some text", "", []byte("hello")},
		{"short master key", "", masterPEM(500)},
		{"public key", "", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: make([]byte, 2500)})},
		{"damaged PEM", "", masterPEM(2500)[:2000]},
		{"two keys", "", append(masterPEM(2500), masterPEM(2500)...)},
		{"huge", "", masterPEM(100_000)},
		{"subject of two lines", "a\nb", keyFile(t)},
		{"long subject", strings.Repeat("x", 129), keyFile(t)},
	} {
		for _, print := range []printer{paperkey.Text, paperkey.HTML} {
			if err := print(io.Discard, tc.key, tc.subject); !errors.Is(err, paperkey.ErrFormat) {
				t.Errorf("%s: %v, want ErrFormat", tc.name, err)
			}
		}
	}
}

func TestErrorOfTheWriterComesBack(t *testing.T) {
	for _, print := range []printer{paperkey.Text, paperkey.HTML} {
		r, w := io.Pipe()
		_ = r.CloseWithError(iotest.ErrTimeout)
		if err := print(w, keyFile(t), ""); !errors.Is(err, iotest.ErrTimeout) {
			t.Errorf("err = %v", err)
		}
	}
}

type printer func(w io.Writer, key []byte, subject string) error

func write(t *testing.T, print printer, key []byte, subject string) string {
	t.Helper()
	var b strings.Builder
	if err := print(&b, key, subject); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// textModules reads the half blocks of a drawing.
func textModules(s string) [][]bool {
	var rows [][]bool
	for line := range strings.SplitSeq(strings.TrimRight(s, "\n"), "\n") {
		var top, bottom []bool
		for _, r := range line {
			top = append(top, r == '█' || r == '▀')
			bottom = append(bottom, r == '█' || r == '▄')
		}
		rows = append(rows, top, bottom)
	}
	return rows
}

// svgModules reads the rectangles of all drawings.
func svgModules(t *testing.T, page string) (codes [][][]bool) {
	t.Helper()
	run := regexp.MustCompile(`M(\d+) (\d+)h(\d+)v1h-(\d+)z`)
	for _, svg := range regexp.MustCompile(`(?s)<svg viewBox="0 0 (\d+) (\d+)".*?</svg>`).FindAllStringSubmatch(page, -1) {
		size := number(t, svg[1])
		rows := make([][]bool, size)
		for y := range rows {
			rows[y] = make([]bool, size)
		}
		for _, r := range run.FindAllStringSubmatch(svg[0], -1) {
			x, y, n := number(t, r[1]), number(t, r[2]), number(t, r[3])
			for i := range n {
				rows[y][x+i] = true
			}
		}
		codes = append(codes, rows)
	}
	return codes
}

func preBlocks(page string) (texts []string) {
	for _, m := range regexp.MustCompile(`(?s)<pre>(.*?)</pre>`).FindAllStringSubmatch(page, -1) {
		texts = append(texts, html.UnescapeString(m[1]))
	}
	return texts
}

func number(t *testing.T, s string) (n int) {
	t.Helper()
	if _, err := fmt.Sscan(s, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// scan reads a QR code with a reader that is not from the library that wrote it.
func scan(t *testing.T, modules [][]bool) string {
	t.Helper()
	const scale, quiet = 4, 16
	img := image.NewGray(image.Rect(0, 0, scale*len(modules[0])+2*quiet, scale*len(modules)+2*quiet))
	for i := range img.Pix {
		img.Pix[i] = 0xff
	}
	for y, row := range modules {
		for x, dark := range row {
			if !dark {
				continue
			}
			for dy := range scale {
				for dx := range scale {
					img.SetGray(quiet+scale*x+dx, quiet+scale*y+dy, color.Gray{})
				}
			}
		}
	}
	bmp, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		t.Fatal(err)
	}
	// The picture is exact: reading it is a question of the code, not of optics.
	hints := map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_PURE_BARCODE: true}
	result, err := qrcode.NewQRCodeReader().Decode(bmp, hints)
	if err != nil {
		t.Fatal(err)
	}
	return result.GetText()
}

// What prints must hold the key, whatever is in it.
func FuzzText(f *testing.F) {
	f.Add(keyFile(f), "subject")
	f.Add(masterPEM(2500), "")
	f.Fuzz(func(t *testing.T, key []byte, subject string) {
		var b strings.Builder
		if err := paperkey.Text(&b, key, subject); err != nil {
			return
		}
		if err := paperkey.HTML(io.Discard, key, subject); err != nil && !errors.Is(err, paperkey.ErrFormat) {
			t.Fatal(err)
		}
		_, inside, isKey := strings.Cut(b.String(), "-----BEGIN PROXMOX BACKUP KEY-----\n")
		if !isKey {
			return
		}
		inside, _, _ = strings.Cut(inside, "\n-----END PROXMOX BACKUP KEY-----")
		want, err := keyfile.Parse(key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := keyfile.Parse([]byte(inside))
		if err != nil {
			t.Fatal(err)
		}
		a, errA := want.Marshal()
		z, errZ := got.Marshal()
		if errA != nil || errZ != nil || string(a) != string(z) {
			t.Fatalf("printed %s, %v, want %s, %v", z, errZ, a, errA)
		}
	})
}
