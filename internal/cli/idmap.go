package cli

import (
	"errors"

	"github.com/holdfast-backup/holdfast/internal/idmap"
)

// idMapFlags say what the users and groups of a container are on this host.
type idMapFlags struct {
	specs []string
	from  string
}

// flagSet is what flags of several commands need of a set of flags.
type flagSet interface {
	BoolVar(p *bool, name string, value bool, usage string)
	IntVar(p *int, name string, value int, usage string)
	StringVar(p *string, name, value, usage string)
	StringArrayVar(p *[]string, name string, value []string, usage string)
}

func (o *idMapFlags) add(f flagSet) {
	f.StringArrayVar(&o.specs, "id-map", nil, "u:CONTAINER:HOST:COUNT, also g: and b: for groups and both: so many ids of a container from CONTAINER on are the ids from HOST on here (repeatable)")
	f.StringVar(&o.from, "id-map-from", "", "take the id map from the configuration of a container (LXC, Proxmox VE, Incus, LXD) or from a process, as /proc/PID")
}

// load returns the map; nil, which changes nothing, where none is given.
func (o idMapFlags) load() (*idmap.Map, error) {
	switch {
	case o.from != "" && len(o.specs) > 0:
		return nil, usagef("--id-map and --id-map-from exclude each other")
	case o.from != "":
		m, err := idmap.Load(o.from)
		switch {
		case errors.Is(err, idmap.ErrInvalid):
			return nil, hint(err, "give the map with --id-map b:0:HOST:COUNT")
		case err != nil:
			return nil, pathError(err)
		}
		return m, nil
	case len(o.specs) > 0:
		m, err := idmap.ParseSpecs(o.specs...)
		if err != nil {
			return nil, hint(usagef("--id-map %w", err), "an unprivileged container of Proxmox VE has b:0:100000:65536")
		}
		return m, nil
	}
	return nil, nil
}

// containerFlags are for backups of containers.
type containerFlags struct {
	idMapFlags
	leaveOut bool
}

func (o *containerFlags) add(f flagSet) {
	o.idMapFlags.add(f)
	f.BoolVar(&o.leaveOut, "container-excludes", false, "leave out /tmp/?*, /var/tmp/?* and /var/run/?*.pid, as vzdump does")
}

// excludes are patterns to stand before those of --exclude, so that these win.
func (o containerFlags) excludes() []string {
	if !o.leaveOut {
		return nil
	}
	return []string{"/tmp/?*", "/var/tmp/?*", "/var/run/?*.pid"}
}
