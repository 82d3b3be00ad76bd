package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/accounts"
	"github.com/holdfast-backup/holdfast/internal/accounts/pam"
	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/daemon"
	"github.com/holdfast-backup/holdfast/internal/server"
	"github.com/spf13/cobra"
)

type serverRunOptions struct {
	listen   string
	logDir   string
	stateDir string
	grace    time.Duration
	limits   server.Limits
	debug    bool
}

func newServerRunCommand(a *app, o *serverOptions) *cobra.Command {
	r := serverRunOptions{listen: ":" + strconv.Itoa(server.DefaultPort), grace: 80 * time.Second}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the server",
		Long: `Serves the datastores of the configuration until it is interrupted. Keys and
certificate are made if they are missing.

Then it takes no more connections and waits for backups, restores and tasks, at
most for --grace. What is left is stopped: a backup that is not finished leaves
nothing behind. A second interrupt ends it at once.

Address and fingerprint are printed when it serves.

A line for each request and session, with method, path, status, user and address
of the client, goes to standard error. Logs of tasks, as PBS has them, are in
log/tasks in the configuration, with /etc/proxmox-backup in
/var/log/proxmox-backup/tasks.`,
		Example: `  holdfast server run --config /etc/holdfast/server
  holdfast server run --config /etc/proxmox-backup --listen 192.0.2.7:8007`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runServer(cmd.Context(), a, o, r)
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.listen, "listen", r.listen, "address and port to listen on, unless the service manager hands over a socket")
	f.StringVar(&r.logDir, "log-dir", "", "directory for the logs of tasks")
	f.StringVar(&r.stateDir, "state-dir", "", "directory for what the server remembers")
	f.DurationVar(&r.grace, "grace", r.grace, "how long sessions and tasks may take to finish when the server ends")
	f.IntVar(&r.limits.Connections, "max-connections", 4096, "connections at a time")
	f.IntVar(&r.limits.PerAddress, "max-connections-per-address", 1024, "connections from one address at a time")
	f.IntVar(&r.limits.Sessions, "max-sessions", 512, "backups and restores of one user or API token at a time")
	f.Float64Var(&r.limits.Requests, "max-requests", 500, "requests a second of one user or API token")
	f.BoolVar(&r.debug, "debug", false, "log what goes wrong on connections, too")
	return cmd
}

// pbsDir is where PBS has its configuration, and keeps its logs elsewhere.
const pbsDir = "/etc/proxmox-backup"

func runServer(ctx context.Context, a *app, o *serverOptions, r serverRunOptions) error {
	d, err := o.dir(a)
	if err != nil {
		return err
	}
	for name, n := range map[string]float64{
		"max-connections": float64(r.limits.Connections), "max-connections-per-address": float64(r.limits.PerAddress),
		"max-sessions": float64(r.limits.Sessions), "max-requests": r.limits.Requests,
	} {
		if n < 1 {
			return usagef("--%s must be at least 1", name)
		}
	}
	if r.grace <= 0 {
		return usagef("--grace must be a time such as 80s")
	}
	node, err := a.Hostname()
	if err != nil {
		node = "localhost"
	}
	level := slog.LevelInfo
	if r.debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(a.Stderr, &slog.HandlerOptions{Level: level}))
	srv, err := server.New(placed(d, server.Options{
		Config: d, LogDir: r.logDir, StateDir: r.stateDir, Version: a.Version, Node: node,
		Location: a.Location, Log: log, Limits: r.limits, Grace: r.grace, Realms: realms(), Remotes: a.remotes(), RunDir: a.runDir(),
	}))
	if err != nil {
		return err
	}
	l, err := listen(ctx, r.listen)
	if err != nil {
		return errors.Join(err, srv.Close(ctx))
	}
	if err := a.sayServing(d, srv, l.Addr().String(), log); err != nil {
		return errors.Join(err, l.Close(), srv.Close(ctx))
	}
	watched, stop := context.WithCancel(context.WithoutCancel(ctx)) // it lives until all sessions have ended
	var watchdog sync.WaitGroup
	watchdog.Go(func() {
		if err := daemon.Watchdog(watched, srv.Alive); err != nil {
			log.Warn("the watchdog is not told that the server lives", "error", err)
		}
	})
	defer watchdog.Wait()
	defer stop()
	return srv.Serve(ctx, l)
}

// listen takes the socket of the service manager, or opens one.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	l, err := daemon.Listener()
	if l != nil || err != nil {
		return l, err
	}
	l, err = new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, hint(fmt.Errorf("listen on %s: %w", addr, err), "another server may run there; --listen names another address")
	}
	return l, nil
}

// realms are those of this machine, besides pbs: its own users, if the program that
// checks their passwords is there.
func realms() map[string]accounts.Realm {
	r := pam.Realm{Path: pam.Helper, Socket: pam.Socket}
	for _, path := range []string{r.Path, r.Socket} {
		if _, err := os.Stat(path); err == nil {
			return map[string]accounts.Realm{pam.Name: r}
		}
	}
	return nil
}

// pamWorks reports whether a server can have passwords of this machine's users checked,
// one with the rights of root or one without: that the program is installed is not
// enough.
func pamWorks(root bool) bool {
	if _, err := os.Stat(pam.Socket); err == nil {
		return true
	}
	info, err := os.Stat(pam.Helper)
	return err == nil && (root || info.Mode()&os.ModeSetuid != 0)
}

// placed puts logs and state where PBS has them, if it is its configuration.
func placed(d confdir.Dir, o server.Options) server.Options {
	if o.StateDir == "" {
		o.TapeDir = tapeState(d.Path())
	}
	if d.Path() != pbsDir {
		return o
	}
	if o.LogDir == "" {
		o.LogDir = "/var/log/proxmox-backup"
	}
	if o.StateDir == "" {
		o.StateDir = "/var/lib/proxmox-backup/holdfast"
		o.JobDir = "/var/lib/proxmox-backup/jobstates"
	}
	return o
}

// sayServing tells people and the service manager that the server works.
func (a *app) sayServing(d confdir.Dir, srv *server.Server, addr string, log *slog.Logger) error {
	err := a.print(map[string]string{"address": addr, "fingerprint": srv.Fingerprint()}, func() error {
		return a.printf("serving on %s, fingerprint %s\n", addr, srv.Fingerprint())
	})
	if err != nil {
		return err
	}
	log.Info("serving", "address", addr, "config", d.Path(), "fingerprint", srv.Fingerprint())
	admin, err := administrator(accounts.NewStore(d, log), a.Now(), map[string]bool{pam.Name: pamWorks(os.Geteuid() == 0)})
	if err != nil {
		return err
	}
	if admin == "" {
		log.Warn("there is no administrator who could log in with a password: 'holdfast server init' makes one")
	}
	return daemon.NotifyReady("serving on " + addr)
}
