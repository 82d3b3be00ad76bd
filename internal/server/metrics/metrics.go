// Package metrics shows the figures of a server to Prometheus.
//
//	holdfast_build_info{version}                                    1
//	holdfast_datastore_up{datastore}                                1 if it can be read
//	holdfast_datastore_{size,used,available}_bytes{datastore}       of its file system
//	holdfast_group_snapshots{datastore,namespace,group}             finished ones
//	holdfast_group_last_backup_timestamp_seconds{the same}          of the newest, absent if there is none
//	holdfast_gc_last_run_timestamp_seconds{datastore}               start of the last collection; with the next ones absent if there was none
//	holdfast_gc_{index_data,disk,pending,removed}_bytes{datastore}  data that snapshots name; chunks that are stored, wait for removal, were removed
//	holdfast_gc_{disk,bad}_chunks{datastore}                        stored chunks, damaged ones among them
//	holdfast_job_last_start_timestamp_seconds{kind,id,datastore}    absent if it never ran
//	holdfast_job_last_success{kind,id,datastore}                    1 or 0, warnings are 1; absent until it has ended once
//	holdfast_tasks_total{type,result}                               ended since the server started: ok, warning, error, unknown
//	holdfast_tasks_running{type}
//	holdfast_sessions                                               backups and restores that run
//	holdfast_requests_total{code}                                   answered since the server started, by status
//	holdfast_network_bytes_total{direction}                         in and out since the server started, as encrypted
//
// and those of the Go runtime and the process. What a datastore says is read when it
// is asked for: its groups are listed, its indexes are not opened.
package metrics

import (
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/holdfast-backup/holdfast/internal/objstore/connect"
	"github.com/holdfast-backup/holdfast/internal/objstore/meter"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// Counters are the figures that grow as long as the server runs. It is safe for
// concurrent use.
type Counters struct {
	registry *prometheus.Registry
	tasks    *prometheus.CounterVec
	requests *prometheus.CounterVec
	bytes    *prometheus.CounterVec
}

// New returns counters that are zero, of a program of that version.
func New(version string) *Counters {
	c := &Counters{
		registry: prometheus.NewRegistry(),
		tasks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_tasks_total", Help: "Tasks that have ended since the server started.",
		}, []string{"type", "result"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_requests_total", Help: "Requests that were answered since the server started, by status.",
		}, []string{"code"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_network_bytes_total", Help: "Bytes that came in and went out since the server started, as encrypted.",
		}, []string{"direction"}),
	}
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "holdfast_build_info", Help: "1, with the version as a label.",
	}, []string{"version"})
	info.WithLabelValues(version).Set(1)
	c.registry.MustRegister(
		c.tasks, c.requests, c.bytes, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return c
}

// Task counts a task that has ended.
func (c *Counters) Task(kind, result string) { c.tasks.WithLabelValues(kind, result).Inc() }

// Request counts an answer.
func (c *Counters) Request(status int) { c.requests.WithLabelValues(strconv.Itoa(status)).Inc() }

// Listener counts the bytes of all connections of l.
func (c *Counters) Listener(l net.Listener) net.Listener {
	return listener{l, c.bytes.WithLabelValues("in"), c.bytes.WithLabelValues("out")}
}

type listener struct {
	net.Listener
	in, out prometheus.Counter
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{c, l.in, l.out}, nil
}

type conn struct {
	net.Conn
	in, out prometheus.Counter
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.in.Add(float64(n))
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.out.Add(float64(n))
	return n, err
}

// Figures are those of a moment.
type Figures struct {
	Stores   []Store
	Jobs     []Job
	Running  map[string]int // tasks, by type
	Sessions int
}

// Store is a datastore.
type Store struct {
	Name    string
	Up      bool // the rest could be read
	Usage   vfs.Usage
	Traffic *connect.Traffic // nil: it is not in an object store
	Groups  []repo.GroupInfo // of all namespaces
	GC      repo.GCStatus
	GCTime  time.Time // zero: never
}

// Job is the last run of a job.
type Job struct {
	Kind, ID, Store string
	Start           time.Time // zero: never
	Ended, OK       bool
}

// Serve answers a request with all figures.
func (c *Counters) Serve(w http.ResponseWriter, r *http.Request, f Figures) {
	now := prometheus.NewRegistry()
	now.MustRegister(f)
	promhttp.HandlerFor(prometheus.Gatherers{c.registry, now}, promhttp.HandlerOpts{}).ServeHTTP(w, r)
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("holdfast_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector: which figures there are is not fixed.
func (Figures) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (f Figures) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	var (
		up       = desc("datastore_up", "1 if the datastore can be read.", "datastore")
		size     = desc("datastore_size_bytes", "Size of the file system.", "datastore")
		used     = desc("datastore_used_bytes", "Bytes in use on the file system.", "datastore")
		free     = desc("datastore_available_bytes", "Bytes that can be written.", "datastore")
		count    = desc("group_snapshots", "Finished snapshots of a group.", "datastore", "namespace", "group")
		last     = desc("group_last_backup_timestamp_seconds", "When the newest finished snapshot of a group was made.", "datastore", "namespace", "group")
		requests = desc("objectstore_requests_total", "Requests to the object store of a datastore.", "datastore", "kind")
		traffic  = desc("objectstore_bytes_total", "Bytes of objects that were read from and written to the object store of a datastore.", "datastore", "direction")
		retried  = desc("objectstore_retries_total", "Requests to the object store of a datastore that were made again.", "datastore")
		gcTime   = desc("gc_last_run_timestamp_seconds", "When the last garbage collection started.", "datastore")
		gcData   = desc("gc_index_data_bytes", "Data that snapshots name, at the last garbage collection.", "datastore")
		gcDisk   = desc("gc_disk_bytes", "Size of the stored chunks, at the last garbage collection.", "datastore")
		gcWait   = desc("gc_pending_bytes", "Size of chunks that wait for their removal, at the last garbage collection.", "datastore")
		gcGone   = desc("gc_removed_bytes", "Size of what the last garbage collection removed.", "datastore")
		gcChunks = desc("gc_disk_chunks", "Stored chunks, at the last garbage collection.", "datastore")
		gcBad    = desc("gc_bad_chunks", "Damaged chunks that are kept, at the last garbage collection.", "datastore")
		jobTime  = desc("job_last_start_timestamp_seconds", "When a job started last.", "kind", "id", "datastore")
		jobOK    = desc("job_last_success", "1 if the last run of a job that has ended went well.", "kind", "id", "datastore")
		running  = desc("tasks_running", "Tasks that run.", "type")
		sessions = desc("sessions", "Backups and restores that run.")
	)
	for _, s := range f.Stores {
		gauge(up, one(s.Up), s.Name)
		if !s.Up {
			continue
		}
		gauge(size, float64(s.Usage.Total), s.Name)
		gauge(used, float64(s.Usage.Used), s.Name)
		gauge(free, float64(s.Usage.Available), s.Name)
		for _, g := range s.Groups {
			gauge(count, float64(g.Count), s.Name, g.Namespace.String(), g.Group.String())
			if g.Count > 0 {
				gauge(last, float64(g.LastBackup.Unix()), s.Name, g.Namespace.String(), g.Group.String())
			}
		}
		if t := s.Traffic; t != nil {
			for kind, n := range t.Requests {
				counter(requests, float64(n), s.Name, meter.Kind(kind).String())
			}
			counter(traffic, float64(t.Down), s.Name, "in")
			counter(traffic, float64(t.Up), s.Name, "out")
			counter(retried, float64(t.Retries), s.Name)
		}
		if s.GCTime.IsZero() {
			continue
		}
		gauge(gcTime, float64(s.GCTime.Unix()), s.Name)
		gauge(gcData, float64(s.GC.IndexDataBytes), s.Name)
		gauge(gcDisk, float64(s.GC.DiskBytes), s.Name)
		gauge(gcWait, float64(s.GC.PendingBytes), s.Name)
		gauge(gcGone, float64(s.GC.RemovedBytes), s.Name)
		gauge(gcChunks, float64(s.GC.DiskChunks), s.Name)
		gauge(gcBad, float64(s.GC.StillBad), s.Name)
	}
	for _, j := range f.Jobs {
		if !j.Start.IsZero() {
			gauge(jobTime, float64(j.Start.Unix()), j.Kind, j.ID, j.Store)
		}
		if j.Ended {
			gauge(jobOK, one(j.OK), j.Kind, j.ID, j.Store)
		}
	}
	for typ, n := range f.Running {
		gauge(running, float64(n), typ)
	}
	gauge(sessions, float64(f.Sessions))
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
