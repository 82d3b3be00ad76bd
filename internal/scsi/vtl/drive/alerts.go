package drive

// alert is the number of a TapeAlert flag, from 1.
type alert int

const (
	alertRead          alert = 0x05
	alertWrite         alert = 0x06
	alertProtected     alert = 0x09
	alertFormat        alert = 0x0c
	alertCleanNow      alert = 0x14
	alertCleanPeriodic alert = 0x15
	alertCleanExpired  alert = 0x16
	alertHardware      alert = 0x1e
	alertOverwrite     alert = 0x3c
)

// alerts are the flags that are up: flag n is bit n-1.
type alerts uint64

func (a *alerts) raise(n alert)    { *a |= 1 << (n - 1) }
func (a *alerts) clear(n alert)    { *a &^= 1 << (n - 1) }
func (a *alerts) has(n alert) bool { return *a&(1<<(n-1)) != 0 }

// RaiseAlert puts a TapeAlert flag up, 1 to 64, as if something was wrong.
func (d *Drive) RaiseAlert(n int) {
	d.run.Lock()
	defer d.run.Unlock()
	if n >= 1 && n <= 64 {
		d.alerts.raise(alert(n))
	}
}
