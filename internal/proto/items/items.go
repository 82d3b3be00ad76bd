// Package items is what the calls of a backup server's API answer with, as JSON,
// for both ends. The field names are those of PBS; fields with "omitempty" are
// left out when there is nothing to say, all others are always there.
//
// # Source
//
// proxmox-rs: pbs-api-types/src/{datastore,jobs,node,user,acl}.rs.
package items

import "github.com/holdfast-backup/holdfast/internal/repo"

// Store is a datastore in the list of those that the caller may see.
type Store struct {
	Store       string  `json:"store"`
	Comment     *string `json:"comment"`
	MountStatus string  `json:"mount-status" doc:"mounted, notmounted or nonremovable"`
	Maintenance string  `json:"maintenance,omitempty" doc:"kind of maintenance, if there is any"`
	BackendType string  `json:"backend-type" doc:"filesystem or s3"`
}

// Group is a backup group.
type Group struct {
	Type       string   `json:"backup-type"`
	ID         string   `json:"backup-id"`
	LastBackup int64    `json:"last-backup" doc:"time of the newest finished snapshot; 0 if there is none"`
	Count      int      `json:"backup-count"`
	Files      []string `json:"files" doc:"of the newest finished snapshot"`
	Owner      string   `json:"owner,omitempty"`
	Comment    string   `json:"comment,omitempty" doc:"first line of the notes"`
}

// Snapshot is one backup.
type Snapshot struct {
	Type         string        `json:"backup-type"`
	ID           string        `json:"backup-id"`
	Time         int64         `json:"backup-time" doc:"seconds since 1970-01-01 UTC"`
	Comment      string        `json:"comment,omitempty" doc:"first line of the notes"`
	Verification *Verification `json:"verification,omitempty"`
	Fingerprint  string        `json:"fingerprint,omitempty" doc:"of the encryption key"`
	Files        []File        `json:"files"`
	Size         *uint64       `json:"size,omitempty" doc:"sum of the files; missing while the backup is being written"`
	Owner        string        `json:"owner,omitempty"`
	Protected    bool          `json:"protected"`
}

// Verification is the result of the last one.
type Verification struct {
	UPID  string `json:"upid"`
	State string `json:"state" doc:"ok or failed"`
}

// File is an archive of a snapshot.
type File struct {
	Name      string  `json:"filename"`
	CryptMode string  `json:"crypt-mode,omitempty" doc:"none, encrypt or sign-only"`
	Size      *uint64 `json:"size,omitempty"`
}

// Namespace is a namespace of a datastore.
type Namespace struct {
	NS      string `json:"ns"`
	Comment string `json:"comment,omitempty"`
}

// Pruned is what pruning decided on a snapshot.
type Pruned struct {
	Type      string `json:"backup-type"`
	ID        string `json:"backup-id"`
	Time      int64  `json:"backup-time"`
	Keep      bool   `json:"keep"`
	Protected bool   `json:"protected"`
	NS        string `json:"ns,omitempty"`
}

// Deleted counts what was removed with a group or namespace.
type Deleted struct {
	Groups    int `json:"removed-groups"`
	Protected int `json:"protected-snapshots" doc:"snapshots that stayed because they are protected"`
	Snapshots int `json:"removed-snapshots"`
}

// Status says how full a datastore is.
type Status struct {
	Total       uint64  `json:"total"`
	Used        uint64  `json:"used"`
	Avail       uint64  `json:"avail"`
	GC          *GC     `json:"gc-status,omitempty"`
	Counts      *Counts `json:"counts,omitempty"`
	BackendType string  `json:"backend-type"`
}

// GC is the status of the last garbage collection.
type GC struct {
	UPID           *string `json:"upid"`
	IndexFiles     int64   `json:"index-file-count"`
	IndexDataBytes int64   `json:"index-data-bytes"`
	DiskBytes      int64   `json:"disk-bytes"`
	DiskChunks     int64   `json:"disk-chunks"`
	RemovedBytes   int64   `json:"removed-bytes"`
	RemovedChunks  int64   `json:"removed-chunks"`
	PendingBytes   int64   `json:"pending-bytes"`
	PendingChunks  int64   `json:"pending-chunks"`
	RemovedBad     int64   `json:"removed-bad"`
	StillBad       int64   `json:"still-bad"`
}

// GCOf is the status of a repository's last collection.
func GCOf(st repo.GCStatus) GC {
	g := GC{
		nil, st.IndexFiles, st.IndexDataBytes, st.DiskBytes, st.DiskChunks, st.RemovedBytes, st.RemovedChunks,
		st.PendingBytes, st.PendingChunks, st.RemovedBad, st.StillBad,
	}
	if st.UPID != "" {
		g.UPID = &st.UPID
	}
	return g
}

// Status is the inverse of GCOf.
func (g GC) Status() repo.GCStatus {
	st := repo.GCStatus{
		IndexFiles: g.IndexFiles, IndexDataBytes: g.IndexDataBytes, DiskBytes: g.DiskBytes, DiskChunks: g.DiskChunks,
		RemovedBytes: g.RemovedBytes, RemovedChunks: g.RemovedChunks, PendingBytes: g.PendingBytes, PendingChunks: g.PendingChunks,
		RemovedBad: g.RemovedBad, StillBad: g.StillBad,
	}
	if g.UPID != nil {
		st.UPID = *g.UPID
	}
	return st
}

// GCJob is the last garbage collection and the next.
type GCJob struct {
	Store string `json:"store"`
	GC
	Schedule       string `json:"schedule,omitempty"`
	NextRun        *int64 `json:"next-run,omitempty"`
	LastRunEndtime *int64 `json:"last-run-endtime,omitempty"`
	LastRunState   string `json:"last-run-state,omitempty"`
	Duration       *int64 `json:"duration,omitempty"`
}

// Counts is how much there is of each type; null is nothing.
type Counts struct {
	CT    *Count `json:"ct"`
	Host  *Count `json:"host"`
	VM    *Count `json:"vm"`
	Other *Count `json:"other"`
}

// Count is how much there is of one type.
type Count struct {
	Groups    int `json:"groups"`
	Snapshots int `json:"snapshots"`
}

// Usage is how full a datastore is, was, and when it will be.
type Usage struct {
	Store         string     `json:"store"`
	Total         *uint64    `json:"total,omitempty"`
	Used          *uint64    `json:"used,omitempty"`
	Avail         *uint64    `json:"avail,omitempty"`
	MountStatus   string     `json:"mount-status"`
	History       []*float64 `json:"history,omitempty" doc:"the part that was used, 0 to 1; null: not known"`
	HistoryStart  *int64     `json:"history-start,omitempty"`
	HistoryDelta  *int64     `json:"history-delta,omitempty" doc:"seconds from one to the next"`
	EstimatedFull *int64     `json:"estimated-full-date,omitempty" doc:"in the past: it does not grow"`
	Error         string     `json:"error,omitempty"`
	GC            *GC        `json:"gc-status,omitempty"`
	BackendType   string     `json:"backend-type"`
}

// Task is a task in a list.
type Task struct {
	UPID      string  `json:"upid"`
	Node      string  `json:"node"`
	PID       int64   `json:"pid"`
	PStart    uint64  `json:"pstart"`
	StartTime int64   `json:"starttime"`
	Type      string  `json:"worker_type"`
	Worker    *string `json:"worker_id"`
	User      string  `json:"user"`
	EndTime   *int64  `json:"endtime,omitempty"`
	Status    string  `json:"status,omitempty"`
}

// TaskStatus is how a task is doing.
type TaskStatus struct {
	UPID       string  `json:"upid"`
	Node       string  `json:"node"`
	PID        int64   `json:"pid"`
	PStart     uint64  `json:"pstart"`
	StartTime  int64   `json:"starttime"`
	Type       string  `json:"type"`
	Worker     *string `json:"id"`
	User       string  `json:"user"`
	Token      string  `json:"tokenid,omitempty"`
	Status     string  `json:"status" doc:"running or stopped"`
	ExitStatus string  `json:"exitstatus,omitempty" doc:"OK, WARNINGS: n, unknown, or an error"`
	EndTime    *int64  `json:"endtime,omitempty"`
}

// LogLine is a line of a task's log.
type LogLine struct {
	N    int    `json:"n"`
	Text string `json:"t"`
}

// CatalogEntry is an entry of a directory in a snapshot.
type CatalogEntry struct {
	Path  string `json:"filepath" doc:"base64"`
	Text  string `json:"text"`
	Type  string `json:"type" doc:"d f l h b c p s, or v for an archive"`
	Leaf  bool   `json:"leaf"`
	Size  *int64 `json:"size,omitempty"`
	Mtime *int64 `json:"mtime,omitempty"`
}

// Version is what the server is.
type Version struct {
	Version string `json:"version" doc:"major.minor of the server whose API this is"`
	Release string `json:"release"`
	RepoID  string `json:"repoid"`
}

// Login is a ticket.
type Login struct {
	Username   string `json:"username"`
	Ticket     string `json:"ticket,omitempty"`
	TicketInfo string `json:"ticket-info,omitempty"`
	CSRFToken  string `json:"CSRFPreventionToken"`
}
