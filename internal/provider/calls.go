package provider

import (
	"context"
	"encoding/json"
	"time"
)

// call is one line of the table of calls.
type call struct {
	name string
	do   func(s *Service, ctx context.Context, log Log, args json.RawMessage) (any, error)
}

// with makes a call of a function that takes decoded arguments.
func with[A any](name string, do func(s *Service, ctx context.Context, log Log, a A) (any, error)) call {
	return call{name, func(s *Service, ctx context.Context, log Log, raw json.RawMessage) (any, error) {
		var a A
		if err := strictly(raw, &a); err != nil {
			return nil, err
		}
		return do(s, ctx, log, a)
	}}
}

// calls is the table of all calls; cancel belongs to the connection.
var calls = []call{
	with("job_init", func(s *Service, ctx context.Context, log Log, _ jobArgs) (any, error) {
		return nil, s.JobInit(ctx, log)
	}),
	with("job_cleanup", func(s *Service, _ context.Context, _ Log, _ struct{}) (any, error) { s.JobCleanup(); return nil, nil }),

	with("backup_init", func(s *Service, _ context.Context, _ Log, a initArgs) (any, error) {
		archive, err := s.BackupInit(a.guest(), time.Unix(a.Start, 0))
		return map[string]string{"archive-name": archive.Name}, err
	}),
	with("backup_cleanup", func(s *Service, ctx context.Context, log Log, a cleanupArgs) (any, error) {
		r, err := s.BackupCleanup(ctx, log, a.guest(), a.Archive, bool(a.Success), a.Info.Error)
		return map[string]any{"stats": map[string]int64{"archive-size": r.Size}}, err
	}),
	with("backup_get_mechanism", func(s *Service, _ context.Context, _ Log, a guestArgs) (any, error) {
		m, err := s.Mechanism(a.guest())
		return map[string]Mechanism{"mechanism": m}, err
	}),
	with("backup_handle_log_file", func(s *Service, ctx context.Context, log Log, a logArgs) (any, error) {
		s.BackupLog(ctx, log, a.guest(), a.Archive, a.Filename)
		return nil, nil
	}),
	with("backup_vm_query_incremental", func(s *Service, ctx context.Context, log Log, a queryArgs) (any, error) {
		sizes := make(map[string]int64, len(a.Volumes))
		for d, v := range a.Volumes {
			sizes[d] = v.Size
		}
		modes, err := s.QueryIncremental(ctx, log, a.VMID, sizes)
		return map[string]any{"modes": modes}, err
	}),
	with("backup_vm", func(s *Service, ctx context.Context, log Log, a vmArgs) (any, error) {
		return nil, s.BackupVM(ctx, log, a.VMID, a.Archive, a.machine())
	}),
	with("backup_container_prepare", func(s *Service, _ context.Context, _ Log, a prepareArgs) (any, error) {
		return nil, s.BackupContainerPrepare(a.VMID, a.Archive, a.Info.info())
	}),

	with("restore_get_mechanism", func(s *Service, ctx context.Context, _ Log, a archiveArgs) (any, error) {
		m, kind, err := s.RestoreMechanism(ctx, a.Archive)
		return map[string]any{"mechanism": m, "vmtype": kind}, err
	}),
	with("archive_get_guest_config", func(s *Service, ctx context.Context, _ Log, a archiveArgs) (any, error) {
		c, err := s.ArchiveConfigs(ctx, a.Archive)
		return map[string]*string{"config": text(c.Guest)}, err
	}),
	with("archive_get_firewall_config", func(s *Service, ctx context.Context, _ Log, a archiveArgs) (any, error) {
		c, err := s.ArchiveConfigs(ctx, a.Archive)
		return map[string]*string{"config": text(c.Firewall)}, err
	}),
	with("restore_vm_init", func(s *Service, ctx context.Context, _ Log, a archiveArgs) (any, error) {
		list, err := s.RestoreVMInit(ctx, a.Archive)
		devices := make(map[string]sizeJSON, len(list))
		for _, v := range list {
			devices[v.Device] = sizeJSON{v.Size}
		}
		return map[string]any{"devices": devices}, err
	}),
	with("restore_vm_volume_init", func(s *Service, ctx context.Context, _ Log, a volumeArgs) (any, error) {
		path, err := s.RestoreVolumeInit(ctx, a.Archive, a.Device)
		return map[string]string{"qemu-img-path": path}, err
	}),
	with("restore_vm_volume_cleanup", func(s *Service, ctx context.Context, _ Log, a volumeArgs) (any, error) {
		return nil, s.RestoreVolumeCleanup(ctx, a.Archive, a.Device)
	}),
	with("restore_vm_cleanup", releaseArchive),
	with("restore_container_init", func(s *Service, ctx context.Context, _ Log, a archiveArgs) (any, error) {
		t, err := s.RestoreContainerInit(ctx, a.Archive)
		if t.Tar != "" {
			return map[string]string{"tar-path": t.Tar}, err
		}
		return map[string]string{"archive-directory": t.Dir}, err
	}),
	with("restore_container_cleanup", releaseArchive),

	with("storage_status", func(s *Service, ctx context.Context, _ Log, _ struct{}) (any, error) {
		u, err := s.store.Usage(ctx)
		return usageJSON(u), err
	}),
	with("storage_identity", func(s *Service, ctx context.Context, _ Log, _ struct{}) (any, error) {
		id, err := s.store.Identity(ctx)
		return map[string]string{"identity": id}, err
	}),
	with("storage_list", (*Service).list),
	with("storage_get", func(s *Service, ctx context.Context, _ Log, a archiveArgs) (any, error) {
		archive, err := s.parse(a.Archive, "")
		if err != nil {
			return nil, err
		}
		e, err := s.store.Entry(ctx, archive)
		return entryJSONOf(e), err
	}),
	with("storage_update_attribute", (*Service).update),
	with("storage_free", func(s *Service, ctx context.Context, _ Log, a archiveArgs) (any, error) {
		archive, err := s.parse(a.Archive, "")
		if err != nil {
			return nil, err
		}
		return nil, s.store.Free(ctx, archive)
	}),
	with("storage_prune", (*Service).prune),
}

func releaseArchive(s *Service, ctx context.Context, _ Log, a archiveArgs) (any, error) {
	return nil, s.RestoreCleanup(ctx, a.Archive)
}

// Mechanism says how the data of a guest is to be handed over.
func (s *Service) Mechanism(g Guest) (Mechanism, error) {
	if err := g.check(); err != nil {
		return "", err
	}
	if g.Kind == LXC {
		return Directory, nil
	}
	return s.opts.VMs, nil
}
