package tcmu

import "errors"

// ErrServed is wrapped when there are devices of a name already. If the process
// that serves them has died, Remove takes them away.
var ErrServed = errors.New("its devices are there already, and served by another process")
