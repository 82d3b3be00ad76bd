package guest

import (
	"crypto/subtle"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/holdfast-backup/holdfast/internal/appliance/wire"
	"github.com/holdfast-backup/holdfast/internal/kernel/vsock"
)

// tokenWait is how long a caller may take to say the token.
const tokenWait = 10 * time.Second

// listen lets the host call, besides through the port, if it has left a token. Who does not
// know that is turned away: every program of the host can call.
func listen(hello wire.Hello, handle func(*wire.Stream)) {
	token, err := os.ReadFile(VsockFile)
	if err != nil {
		return // there is none
	}
	l, err := vsock.Listen(VsockPort)
	if err != nil {
		fmt.Println("holdfast:", err)
		return
	}
	for {
		f, err := l.Accept()
		if err != nil {
			fmt.Println("holdfast:", err)
			return
		}
		go func() {
			defer f.Close()
			if admits(f, token) {
				_ = wire.Serve(f, hello, handle) // its end is no end of the agent: the port is there
			}
		}()
	}
}

// admits reads the token of a caller.
func admits(f *os.File, token []byte) bool {
	said := make([]byte, len(token))
	_ = f.SetReadDeadline(time.Now().Add(tokenWait))
	_, err := io.ReadFull(f, said)
	_ = f.SetReadDeadline(time.Time{})
	return err == nil && len(token) > 0 && subtle.ConstantTimeCompare(said, token) == 1
}
