package server_test

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/server/jobs"
)

// scrape asks as Prometheus does, with an API token.
func (s *site) scrape(id, key string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "https://"+s.addr+"/api2/json/metrics", nil)
	s.ok(err)
	req.Header.Set("Authorization", "PBSAPIToken "+id+":"+key)
	resp, err := s.client().http.Do(req)
	s.ok(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	s.ok(err)
	return resp.StatusCode, string(b)
}

func TestPrometheusGetsFigures(t *testing.T) {
	s := newSite(t)
	s.addStore("other")
	s.addStore("gone")
	s.setStore("gone", "path", s.dir+"/nowhere")
	for i := range int64(3) {
		s.small("tank", snapshot("", "vm/100", day1+i*3600), "admin@pbs")
	}
	s.fill("tank", snapshot("a", "ct/7", day1), "admin@pbs", nil, "")
	s.addJob(jobs.Prune, "never", jobs.Values{"store": {"tank"}, "keep-last": {"1"}})
	s.addUser("watch@pbs")
	key := s.addToken("watch@pbs!prometheus")
	for _, id := range []string{"watch@pbs", "watch@pbs!prometheus"} {
		s.grant("/system/status", id, "Audit")
		s.grant("/datastore/tank", id, "DatastoreAudit")
		s.grant("/datastore/gone", id, "DatastoreAudit")
	}
	s.start()
	s.runJob(jobs.GC, "tank")
	status, text := s.scrape("watch@pbs!prometheus", key)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	for _, want := range []string{
		`holdfast_build_info{version="test"} 1`, `holdfast_datastore_up{datastore="tank"} 1`, `holdfast_datastore_up{datastore="gone"} 0`,
		`holdfast_group_snapshots{datastore="tank",group="vm/100",namespace=""} 3`, `holdfast_group_snapshots{datastore="tank",group="ct/7",namespace="a"} 1`,
		fmt.Sprintf(`holdfast_group_last_backup_timestamp_seconds{datastore="tank",group="vm/100",namespace=""} %s`, "1.7176072e+09"),
		`holdfast_tasks_total{result="ok",type="garbage_collection"} 1`, `holdfast_sessions 0`, `holdfast_gc_bad_chunks{datastore="tank"} 0`,
		`# TYPE holdfast_network_bytes_total counter`, `go_goroutines `, `process_resident_memory_bytes `,
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("%s is missing in\n%s", want, text)
		}
	}
	for _, form := range []string{
		`holdfast_datastore_size_bytes\{datastore="tank"\} [1-9]`, `holdfast_gc_last_run_timestamp_seconds\{datastore="tank"\} 1`, `holdfast_gc_index_data_bytes\{datastore="tank"\} [1-9]`,
		`holdfast_network_bytes_total\{direction="in"\} [1-9]`,
	} {
		if !regexp.MustCompile("\n" + form).MatchString(text) {
			t.Errorf("%s is missing in\n%s", form, text)
		}
	}
	if strings.Contains(text, `"other"`) {
		t.Errorf("a datastore shows that the caller may not see")
	}
	if _, text := s.scrape("watch@pbs!prometheus", key); !strings.Contains(text, `holdfast_requests_total{code="200"} `) {
		t.Errorf("requests are not counted")
	}
	other := s.addToken("admin@pbs!nothing")
	if status, _ := s.scrape("admin@pbs!nothing", other); status != http.StatusForbidden {
		t.Errorf("%d", status)
	}
}
