// Package jobs is what a server does by itself, and when: garbage collections,
// prunings, verifications, synchronisations and backups to tape, as its
// configuration schedules them.
//
// # Files
//
//	datastore.cfg     gc-schedule of a datastore; its prune-schedule, as older PBS have it
//	prune.cfg         sections "prune"
//	verification.cfg  sections "verification"
//	sync.cfg          sections "sync"
//	tape-job.cfg      sections "backup"
//	remote.cfg        sections "remote": the servers that sync jobs name
//
// [Properties] says which properties a section has. What is not known stays in the
// file. A job that cannot be read is not run, and says why; the others are.
//
// # State
//
// One file for each job, TYPE-ID.json in the directory of states, with the JSON of PBS:
//
//	{"created":{"time":N}}                     it never ran
//	{"started":{"upid":"UPID:..."}}            it runs, or its process died
//	{"finished":{"upid":..,"state":..,"updated":N or null}}
//
// with the state {"OK":{"endtime":N}}, or Warning with count, Error with message,
// Unknown. TYPE is garbage_collection, prune, prunejob, verificationjob, syncjob or
// tape-backup-job.
// A job that runs holds the lock file TYPE-ID.lck, so that it never runs twice at a
// time, here and in another process.
//
// # When
//
// A job is due when a time of its schedule has come since it last started, was made,
// or was changed: see calendar.Event.Due. So what was missed while no server ran
// is done once, when one runs again. The schedule is what the files say now; they
// are looked at again every minute.
//
// # Source
//
// proxmox-backup: src/server/jobstate.rs, src/bin/proxmox-backup-proxy.rs;
// pbs-api-types/src/{jobs,datastore,remote}.rs.
package jobs

import (
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/calendar"
	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
)

// Kind is what a job does. Its text is the type in names of states and tasks.
type Kind string

// The kinds.
const (
	GC       Kind = "garbage_collection"
	OldPrune Kind = "prune" // of a datastore, in datastore.cfg
	Prune    Kind = "prunejob"
	Verify   Kind = "verificationjob"
	Sync     Kind = "syncjob"
	Tape     Kind = "tape-backup-job"
)

// section returns where jobs of a kind are configured, and as which type of section.
func (k Kind) section() (file confdir.File, typ, schedule string) {
	switch k {
	case GC:
		return confdir.Datastores, "datastore", "gc-schedule"
	case OldPrune:
		return confdir.Datastores, "datastore", "prune-schedule"
	case Prune:
		return confdir.PruneJobs, "prune", "schedule"
	case Verify:
		return confdir.VerifyJobs, "verification", "schedule"
	case Tape:
		return confdir.TapeJobs, "backup", "schedule"
	}
	return confdir.SyncJobs, "sync", "schedule"
}

// Kinds lists all kinds.
func Kinds() []Kind { return []Kind{GC, OldPrune, Prune, Verify, Sync, Tape} }

// Job is one job of the configuration.
type Job struct {
	Kind     Kind
	ID       string // of the section; the datastore for GC and OldPrune
	Store    string
	Schedule string // "": only when somebody runs it
	Disabled bool
	Comment  string
	Problem  error        // why it cannot be run; nil: it can
	By       names.AuthID // who asked for a run; the zero value: its schedule

	event   calendar.Event
	section *sectionconfig.Section
}

// Key names its state.
func (j Job) Key() string { return string(j.Kind) + "-" + j.ID }

// String names it for people.
func (j Job) String() string { return j.Kind.Word() + " job " + j.ID }

// Word is what commands call a kind.
func (k Kind) Word() string {
	switch k {
	case GC:
		return "gc"
	case OldPrune:
		return "datastore-prune"
	case Prune:
		return "prune"
	case Verify:
		return "verify"
	case Tape:
		return "tape"
	}
	return "sync"
}

// Scheduled reports whether it is started by itself.
func (j Job) Scheduled() bool { return j.Schedule != "" && !j.Disabled && j.Problem == nil }

// Section is the configuration as it is in the file; not to be changed.
func (j Job) Section() *sectionconfig.Section { return j.section }

// Load reads the jobs of a configuration, kind by kind in the order of the files. A
// garbage collection that is not scheduled is no job.
func Load(conf confdir.Dir) ([]Job, error) {
	var all []Job
	for _, k := range Kinds() {
		list, _, err := LoadKind(conf, k)
		if err != nil {
			return nil, err
		}
		for _, j := range list {
			if _, typ, _ := k.section(); typ != "datastore" || j.Schedule != "" {
				all = append(all, j)
			}
		}
	}
	return all, nil
}

// LoadKind reads the jobs of a kind, and says which file that is of. Every datastore
// has one of GC and one of OldPrune.
func LoadKind(conf confdir.Dir, k Kind) ([]Job, confdir.Digest, error) {
	file, typ, _ := k.section()
	text, err := conf.Load(file)
	if err != nil {
		return nil, confdir.Digest{}, err
	}
	f, err := sectionconfig.Parse(text)
	if err != nil {
		return nil, confdir.Digest{}, fmt.Errorf("%s: %w", file.Name, err)
	}
	var all []Job
	for sec := range f.Of(typ) {
		all = append(all, jobOf(k, sec))
	}
	return all, confdir.DigestOf(text), nil
}

// Pick returns one of the jobs of a kind.
func Pick(all []Job, k Kind, id string) (Job, error) {
	for _, j := range all {
		if j.ID == id {
			return j, nil
		}
	}
	file, _, _ := k.section()
	return Job{}, fmt.Errorf("%s job %q: %w in %s", k.Word(), id, ErrNotFound, file.Name)
}

// Find returns one job.
func Find(conf confdir.Dir, k Kind, id string) (Job, error) {
	all, _, err := LoadKind(conf, k)
	if err != nil {
		return Job{}, err
	}
	return Pick(all, k, id)
}

func load(conf confdir.Dir, file confdir.File) (*sectionconfig.File, error) {
	text, err := conf.Load(file)
	if err != nil {
		return nil, err
	}
	f, err := sectionconfig.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file.Name, err)
	}
	return f, nil
}

// Once makes a job that is in no file, to be run once.
func Once(k Kind, id string, v Values) (Job, error) {
	_, typ, _ := k.section()
	sec := &sectionconfig.Section{Type: typ, ID: id}
	if err := v.Set(sec, Properties(k)); err != nil {
		return Job{}, err
	}
	j := jobOf(k, sec)
	return j, j.Problem
}

func jobOf(k Kind, sec *sectionconfig.Section) Job {
	_, typ, key := k.section()
	j := Job{Kind: k, ID: sec.ID, Store: sec.ID, section: sec}
	j.Schedule, _ = sec.Get(key)
	j.Comment, _ = sec.Get("comment")
	if typ != "datastore" {
		j.Store, _ = sec.Get("store")
		j.Disabled, _ = sec.Bool("disable", false)
	}
	j.Problem = check(k, sec)
	if j.Problem == nil && j.Schedule != "" {
		j.event, j.Problem = calendar.Parse(j.Schedule)
	}
	return j
}
