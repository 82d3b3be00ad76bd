package access

// Needs returns the privileges of which one lets a call reach every group, and
// those of which one lets it reach the groups of the caller.
func (c Call) Needs() (every, owned Privs) { return calls[c].any, calls[c].owned }
