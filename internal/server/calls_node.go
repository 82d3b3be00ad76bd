package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/server/api"
)

// The release of PBS whose API this is: clients look at it to know what they may
// ask for.
const (
	apiVersion = "4.2"
	apiRelease = "3"
)

// nodeCalls are the calls about the server itself.
func (s *Server) nodeCalls() []api.Call {
	return []api.Call{
		{Method: "GET", Path: "/ping", Doc: "Answer.", Guard: api.Everybody(), Do: api.Data(s.ping)},
		{Method: "GET", Path: "/version", Doc: "Show which API this is.", Guard: api.LoggedIn(""), Do: api.Data(s.version)},
		{
			Method: "GET", Path: "/openapi.json", Doc: "Describe all calls.", Guard: api.Everybody(),
			Do: api.Stream("application/json", s.openAPI),
		},
		{
			Method: "GET", Path: "/nodes/{node}/identity", Doc: "Show what tells this server from others.",
			Guard: api.LoggedIn(""), Params: []api.AnyParam{params.node}, Do: api.Data(s.identity),
		},
		{
			Method: "GET", Path: "/nodes/{node}/status", Doc: "Show how the machine is doing.",
			Guard: api.Where("/system/status", access.SysAudit), Params: []api.AnyParam{params.node}, Do: api.Data(s.nodeStatus),
		},
	}
}

// pongItem is a sign of life.
type pongItem struct {
	Pong bool `json:"pong"`
}

func (s *Server) ping(context.Context, *api.Request) (pongItem, error) { return pongItem{true}, nil }

func (s *Server) version(context.Context, *api.Request) (items.Version, error) {
	return items.Version{Version: apiVersion, Release: apiRelease, RepoID: "holdfast-" + s.opt.Version}, nil
}

// identityItem tells a server from others.
type identityItem struct {
	ID string `json:"pbs-instance-id" doc:"32 hexadecimal digits, the same as long as the server has its keys"`
}

func (s *Server) identity(context.Context, *api.Request) (identityItem, error) {
	key, err := s.opt.Config.Load(confdir.AuthPub)
	sum := sha256.Sum256(append([]byte("instance of a backup server\n"), key...))
	return identityItem{hex.EncodeToString(sum[:16])}, err
}

// nodeStatus is how the machine is doing.
func (s *Server) nodeStatus(context.Context, *api.Request) (*nodeItem, error) {
	st, err := s.machine.status()
	if err != nil {
		return nil, err
	}
	st.Info.Fingerprint = s.certificate.Fingerprint()
	return st, nil
}

// nodeItem is how the machine is doing.
type nodeItem struct {
	Memory  memoryItem `json:"memory"`
	Swap    memoryItem `json:"swap"`
	Root    spaceItem  `json:"root"`
	Uptime  int64      `json:"uptime" doc:"seconds"`
	Load    [3]float64 `json:"loadavg"`
	Kernel  kernelItem `json:"current-kernel"`
	Version string     `json:"kversion"`
	CPU     float64    `json:"cpu" doc:"part of the time in use, 0 to 1"`
	Wait    float64    `json:"wait" doc:"part of the time that waited for disks"`
	CPUInfo cpuItem    `json:"cpuinfo"`
	Info    infoItem   `json:"info"`
	Boot    bootItem   `json:"boot-info"`
}

// memoryItem is bytes of memory.
type memoryItem struct {
	Total uint64 `json:"total"`
	Used  uint64 `json:"used"`
	Free  uint64 `json:"free"`
}

// spaceItem is bytes of a file system.
type spaceItem struct {
	Total uint64 `json:"total"`
	Used  uint64 `json:"used"`
	Avail uint64 `json:"avail"`
}

// kernelItem is the kernel.
type kernelItem struct {
	System  string `json:"sysname"`
	Release string `json:"release"`
	Version string `json:"version"`
	Machine string `json:"machine"`
}

// cpuItem is the processor.
type cpuItem struct {
	Model   string `json:"model"`
	Sockets int    `json:"sockets"`
	CPUs    int    `json:"cpus"`
}

// infoItem is how to recognise the server.
type infoItem struct {
	Fingerprint string `json:"fingerprint"`
}

// bootItem is how the machine was started.
type bootItem struct {
	Mode       string `json:"mode" doc:"efi or legacy-bios"`
	SecureBoot bool   `json:"secureboot"`
}
