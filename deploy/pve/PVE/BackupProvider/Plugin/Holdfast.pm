package PVE::BackupProvider::Plugin::Holdfast;

# The backup provider of Proxmox VE as calls to a running holdfast. Nothing is
# decided here, and no data of guests passes through.
#
# Callers differ in what they pass for restores: the id of the storage may stand
# before the hash, and neither is needed.

use strict;
use warnings;

use PVE::BackupProvider::Plugin::Holdfast::Service;

use base qw(PVE::BackupProvider::Plugin::Base);

sub new {
    my ($class, $storage_plugin, $scfg, $storeid, $log_function) = @_;
    my $log = sub {
        my ($level, $text) = @_;
        $level = 'info' if $level !~ m/^(?:info|warn|err)$/;
        $log_function->($level, $text) if $log_function;
    };
    return bless {
        service => PVE::BackupProvider::Plugin::Holdfast::Service->new($scfg, $storeid, $log),
        log => $log,
    }, $class;
}

sub provider_name { return 'Holdfast'; }

my sub untaint { return PVE::BackupProvider::Plugin::Holdfast::Service::untaint(@_); }

my sub text_of { return PVE::BackupProvider::Plugin::Holdfast::Service::text_of(@_); }

my sub bytes_of { return PVE::BackupProvider::Plugin::Holdfast::Service::bytes_of(@_); }

my sub call { my ($self, @call) = @_; return $self->{service}->call(@call); }

# info_args are the parts of $info that holdfast knows.
my sub info_args {
    my ($info) = @_;
    my $args = {};
    $args->{'bandwidth-limit'} = int($info->{'bandwidth-limit'}) if $info->{'bandwidth-limit'};
    $args->{'firewall-config'} = text_of("$info->{'firewall-config'}")
        if defined($info->{'firewall-config'});
    return $args;
}

# Backup

sub job_init {
    my ($self, $start_time) = @_;
    call($self, 'job_init', { 'start-time' => int($start_time) });
    return;
}

sub job_cleanup {
    my ($self) = @_;
    call($self, 'job_cleanup', {});
    $self->{service}->stop();
    return;
}

sub backup_init {
    my ($self, $vmid, $vmtype, $start_time) = @_;
    my $r = call($self, 'backup_init', { vmid => int($vmid), vmtype => "$vmtype", 'start-time' => int($start_time) });
    return { 'archive-name' => untaint('archive name', $r->{'archive-name'}, qr![A-Za-z0-9\-.+=_/:]+!) };
}

sub backup_cleanup {
    my ($self, $vmid, $vmtype, $success, $info) = @_;
    my $args = { vmid => int($vmid), success => $success ? JSON::true : JSON::false };
    $args->{vmtype} = "$vmtype" if defined($vmtype);
    $args->{info} = { error => "$info->{error}" } if $info && defined($info->{error});
    return call($self, 'backup_cleanup', $args);
}

sub backup_get_mechanism {
    my ($self, $vmid, $vmtype) = @_;
    my $r = call($self, 'backup_get_mechanism', { vmid => int($vmid), vmtype => "$vmtype" });
    return untaint('mechanism', $r->{mechanism}, qr/[a-z\-]+/);
}

# The caller does not catch what dies here, and would lose the rest of the job.
sub backup_handle_log_file {
    my ($self, $vmid, $filename) = @_;
    eval { call($self, 'backup_handle_log_file', { vmid => int($vmid), filename => "$filename" }) };
    eval { $self->{log}->('warn', "the log of the task is not kept: $@") } if $@;
    return;
}

sub backup_vm_query_incremental {
    my ($self, $vmid, $volumes) = @_;
    my $sizes = { map { $_ => { size => int($volumes->{$_}->{size}) } } keys $volumes->%* };
    my $r = call($self, 'backup_vm_query_incremental', { vmid => int($vmid), volumes => $sizes });
    return { map { $_ => untaint('bitmap mode', $r->{modes}->{$_}, qr/[a-z]+/) } keys $r->{modes}->%* };
}

# regions lists the dirty regions, neighbours joined.
my sub regions {
    my ($next) = @_;
    my @list;
    while (my ($offset, $length) = $next->()) {
        if (@list && $list[-1][0] + $list[-1][1] == $offset) {
            $list[-1][1] += $length;
        } else {
            push @list, [$offset + 0, $length + 0];
        }
    }
    return \@list;
}

my sub volume_args {
    my ($v) = @_;
    my $args = { size => int($v->{size}), 'bitmap-mode' => "$v->{'bitmap-mode'}" };
    if (defined($v->{'nbd-path'})) {
        $args->{'nbd-path'} = "$v->{'nbd-path'}";
        $args->{'bitmap-name'} = "$v->{'bitmap-name'}" if defined($v->{'bitmap-name'});
    } elsif (defined($v->{'file-handle'})) {
        $args->{path} = "/proc/$$/fd/" . fileno($v->{'file-handle'});
        $args->{discard} = JSON::true;
        $args->{'dirty-regions'} = regions($v->{'next-dirty-region'}) if $v->{'bitmap-mode'} eq 'reuse';
    } else {
        die "neither an NBD socket nor a file handle\n";
    }
    return $args;
}

sub backup_vm {
    my ($self, $vmid, $guest_config, $volumes, $info) = @_;
    my $args = { vmid => int($vmid), 'guest-config' => text_of("$guest_config"), info => info_args($info) };
    for my $device (keys $volumes->%*) {
        $args->{volumes}->{$device} = eval { volume_args($volumes->{$device}) };
        die "disk $device: $@" if $@;
    }
    call($self, 'backup_vm', $args);
    return;
}

my sub container_info {
    my ($info) = @_;
    my $args = info_args($info);
    $args->{directory} = text_of("$info->{directory}");
    $args->{sources} = [map { text_of("$_") } $info->{sources}->@*];
    $args->{'backup-user-id'} = int($info->{'backup-user-id'} // 0);
    return $args;
}

sub backup_container_prepare {
    my ($self, $vmid, $info) = @_;
    call($self, 'backup_container_prepare', { vmid => int($vmid), info => container_info($info) });
    return;
}

sub backup_container {
    my ($self, $vmid, $guest_config, $exclude_patterns, $info) = @_;
    $self->{service}->walk({
        vmid => int($vmid),
        'guest-config' => text_of("$guest_config"),
        'exclude-patterns' => [map { text_of("$_") } ($exclude_patterns // [])->@*],
        info => container_info($info),
    });
    return;
}

# Restore

sub restore_get_mechanism {
    my ($self, $volname) = @_;
    my $r = call($self, 'restore_get_mechanism', { volname => "$volname" });
    return (untaint('mechanism', $r->{mechanism}, qr/[a-z\-]+/), untaint('kind of guest', $r->{vmtype}, qr/[a-z]+/));
}

sub archive_get_guest_config {
    my ($self, $volname) = @_;
    return bytes_of(call($self, 'archive_get_guest_config', { volname => "$volname" })->{config});
}

sub archive_get_firewall_config {
    my ($self, $volname) = @_;
    return bytes_of(call($self, 'archive_get_firewall_config', { volname => "$volname" })->{config});
}

sub restore_vm_init {
    my ($self, $volname) = @_;
    return call($self, 'restore_vm_init', { volname => "$volname" })->{devices};
}

sub restore_vm_cleanup {
    my ($self, $volname) = @_;
    call($self, 'restore_vm_cleanup', { volname => "$volname" });
    return;
}

sub restore_vm_volume_init {
    my ($self, $volname, $device_name) = @_;
    my $r = call($self, 'restore_vm_volume_init', { volname => "$volname", device => "$device_name" });
    return { 'qemu-img-path' => untaint('path', $r->{'qemu-img-path'}, qr{/[A-Za-z0-9_./\-]+}) };
}

sub restore_vm_volume_cleanup {
    my ($self, $volname, $device_name) = @_;
    call($self, 'restore_vm_volume_cleanup', { volname => "$volname", device => "$device_name" });
    return;
}

sub restore_container_init {
    my ($self, $volname) = @_;
    my $r = call($self, 'restore_container_init', { volname => "$volname" });
    my ($key) = grep { defined($r->{$_}) } qw(tar-path archive-directory);
    die "holdfast gave no path\n" if !$key;
    return { $key => untaint('path', $r->{$key}, qr{/[^\x00-\x1f\x7f]+}) };
}

sub restore_container_cleanup {
    my ($self, $volname) = @_;
    call($self, 'restore_container_cleanup', { volname => "$volname" });
    return;
}

1;
