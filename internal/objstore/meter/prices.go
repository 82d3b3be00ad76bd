package meter

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Prices are what a provider takes, in any one currency. What is stored is not
// among them: it costs by the month, not by the request.
type Prices struct {
	Requests [kinds]float64 // of 1,000 requests, by Kind
	Up, Down float64        // of a GiB
}

// Usual are the list prices of Amazon S3's standard class in its first region, in
// US dollars, with what the traffic out of it costs. Others are cheaper.
func Usual() Prices {
	var p Prices
	p.Requests[Get], p.Requests[Stat] = 0.0004, 0.0004
	p.Requests[Put], p.Requests[List], p.Requests[Retain] = 0.005, 0.005, 0.005
	p.Down = 0.09
	return p
}

// ErrPrices is wrapped by the errors of ParsePrices.
var ErrPrices = errors.New("not a list of prices")

// ParsePrices reads prices:
//
//	put=0.005,get=0.0004,list=0.005,stat=0.0004,delete=0,retain=0.005,up=0,down=0.09
//
// Those of requests are for 1,000, the last two for a GiB. What is not named
// costs nothing.
func ParsePrices(text string) (Prices, error) {
	var p Prices
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		at := p.of(name)
		if at == nil {
			return Prices{}, fmt.Errorf("%w: %q: nothing is called %q; it looks like put=0.005,get=0.0004,down=0.09", ErrPrices, text, name)
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || v < 0 || math.IsInf(v, 0) || math.IsNaN(v) {
			return Prices{}, fmt.Errorf("%w: %q: %q is no price", ErrPrices, text, value)
		}
		*at = v
	}
	return p, nil
}

// of is where the price of that name is.
func (p *Prices) of(name string) *float64 {
	switch name {
	case "up":
		return &p.Up
	case "down":
		return &p.Down
	}
	for k := range kinds {
		if name == k.String() {
			return &p.Requests[k]
		}
	}
	return nil
}

// Cost is what was counted, at these prices.
func (p Prices) Cost(c Counts) (sum float64) {
	for k, n := range c.Requests {
		sum += p.Requests[k] * float64(n) / 1000
	}
	const gib = 1 << 30
	return sum + p.Up*float64(c.Up)/gib + p.Down*float64(c.Down)/gib
}
