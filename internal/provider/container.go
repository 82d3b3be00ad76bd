package provider

import (
	"context"
)

// ContainerInfo is what the platform says about a container.
type ContainerInfo struct {
	Directory string   // the root of its mounted tree
	Sources   []string // mount points below it that belong to it: ".", "./mnt/data"
	UserID    int      // what its root is on the host
	Rate      int64    // bytes a second; 0: no limit
}

// BackupContainerPrepare is the part with all rights.
func (s *Service) BackupContainerPrepare(vmid int, name string, info ContainerInfo) error {
	t, err := s.resume(Guest{LXC, vmid}, name)
	if err != nil {
		return err
	}
	if info.Directory == "" {
		return usagef("there is no directory to back up")
	}
	if s.opts.Walkers == nil {
		return usagef("there is no descriptor through which the process that walks the container can report")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.walk = &info
	return nil
}

// BackupContainer stores a container, which walk reads. When it returns nil the
// archive is complete.
func (s *Service) BackupContainer(ctx context.Context, log Log, vmid int, name string, c Configs, walk Walk) error {
	t, err := s.resume(Guest{LXC, vmid}, name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	prepared := t.walk != nil
	s.mu.Unlock()
	if !prepared {
		return usagef("backup_container_prepare for %d is missing", vmid)
	}
	if len(c.Guest) == 0 {
		return usagef("there is no guest configuration")
	}
	return s.run(ctx, t, func(ctx context.Context) (Result, error) {
		result, err := s.store.BackupContainer(ctx, t.archive, Container{Configs: c, Walk: walk})
		if err != nil {
			return Result{}, err
		}
		if result.Skipped > 0 {
			log.printf(Warn, "%s is not complete: %d entries could not be read as they are", t.archive.Name, result.Skipped)
		}
		log.printf(Info, "%s: %s read, %s new in the storage", t.archive.Name, mib(result.Read), mib(result.Stored))
		return result, nil
	})
}
