package media

import (
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/ncruces/go-strftime"
)

// SetName is the name of a media set for people: the template of its pool, with
// the specifications of strftime(3) for its beginning and %id% for its uuid. Where
// the beginning is not known, it is the uuid.
func (inv *Inventory) SetName(set uuid.UUID, template string, loc *time.Location) string {
	start, ok := inv.Start(set)
	if !ok {
		return set.String()
	}
	if template == "" {
		template = "%c"
	}
	template = strings.ReplaceAll(template, "%id%", set.String())
	return strftime.Format(template, time.Unix(start, 0).In(loc))
}
