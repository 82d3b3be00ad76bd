package image

// Faulty fails reads that touch [Bad, Bad+Length). It serves tests and
// commands that show how a reader copes.
type Faulty struct {
	Image
	Bad, Length int64
	Err         error
}

var _ Extenter = Faulty{}

// ReadAt reads up to the bad range and fails there.
func (f Faulty) ReadAt(p []byte, off int64) (int, error) {
	if off >= f.Bad+f.Length || off+int64(len(p)) <= f.Bad {
		return f.Image.ReadAt(p, off)
	}
	if off >= f.Bad {
		return 0, f.Err
	}
	n, err := f.Image.ReadAt(p[:f.Bad-off], off)
	if err == nil {
		err = f.Err
	}
	return n, err
}

// ExtentAt passes the question on.
func (f Faulty) ExtentAt(off int64) (Extent, error) { return ExtentAt(f.Image, off) }
