package PVE::Storage::Custom::HoldfastPlugin;

# Backups in a Holdfast repository, or in a directory in the plain layout, as a
# storage of Proxmox VE. Everything is asked of 'holdfast provider'.

use strict;
use warnings;

use JSON;

use PVE::BackupProvider::Plugin::Holdfast;
use PVE::BackupProvider::Plugin::Holdfast::Service;

use base qw(PVE::Storage::Plugin);

my $API = 15; # the newest version that this was written for

# api is a version that this host takes: it refuses newer ones.
sub api {
    my $host = eval { PVE::Storage::APIVER() } // $API;
    return $host < $API ? $host : $API;
}

sub type { return 'holdfast'; }

sub plugindata {
    return {
        content => [{ backup => 1, none => 1 }, { backup => 1 }],
        features => { 'backup-provider' => 1 },
        'sensitive-properties' => { password => 1 },
    };
}

sub properties {
    return {
        'hf-repository' => {
            description => "Repository: a directory, or user\@realm\@host:datastore.",
            type => 'string',
        },
        'hf-directory' => {
            description => "Instead of a repository, a directory for backups in the plain layout.",
            type => 'string',
        },
        'hf-keyfile' => {
            description => "File with the encryption key, on every node.",
            type => 'string',
        },
        'hf-vm-mechanism' => {
            description => "How disks of VMs are read.",
            type => 'string',
            enum => ['nbd', 'file-handle'],
            default => 'nbd',
        },
        'hf-vm-mode' => {
            description => "Read what changed only, or everything.",
            type => 'string',
            enum => ['full', 'incremental'],
            default => 'incremental',
        },
        'hf-lxc-mode' => {
            description => "What a container becomes in a directory.",
            type => 'string',
            enum => ['tar', 'squashfs'],
            default => 'tar',
        },
        'hf-change-detection' => {
            description => "Which files of containers are read for a repository.",
            type => 'string',
            enum => ['metadata', 'data'],
            default => 'metadata',
        },
    };
}

# The others are defined by plugins of Proxmox VE.
sub options {
    return {
        'hf-repository' => { optional => 1 },
        'hf-directory' => { optional => 1 },
        'hf-keyfile' => { optional => 1 },
        'hf-vm-mechanism' => { optional => 1 },
        'hf-vm-mode' => { optional => 1 },
        'hf-lxc-mode' => { optional => 1 },
        'hf-change-detection' => { optional => 1 },
        namespace => { optional => 1 },
        fingerprint => { optional => 1 },
        password => { optional => 1 },
        content => { optional => 1 },
        nodes => { optional => 1 },
        disable => { optional => 1 },
        shared => { optional => 1 },
        'prune-backups' => { optional => 1 },
        'max-protected-backups' => { optional => 1 },
    };
}

my sub check {
    my ($scfg) = @_;
    my $n = grep { defined($scfg->{$_}) } qw(hf-repository hf-directory);
    die "exactly one of hf-repository and hf-directory is needed\n" if $n != 1;
}

# Secrets

my sub set_password {
    my ($storeid, $password) = @_;
    my $file = PVE::BackupProvider::Plugin::Holdfast::Service::password_file($storeid);
    if (!defined($password)) {
        unlink($file) or $!{ENOENT} or die "remove $file: $!\n";
        return;
    }
    my ($dir) = $file =~ m!^(.*)/[^/]+$!;
    mkdir($dir, 0700);
    my $umask = umask(0077);
    my $done = eval {
        open(my $fh, '>', "$file.new") or die "write $file: $!\n";
        (print $fh "$password\n" and close($fh)) or die "write $file: $!\n";
        rename("$file.new", $file) or die "write $file: $!\n";
    };
    my $err = $@;
    umask($umask);
    die $err if !$done;
}

sub on_add_hook {
    my ($class, $storeid, $scfg, %sensitive) = @_;
    check($scfg);
    set_password($storeid, $sensitive{password});
    return;
}

sub on_update_hook {
    my ($class, $storeid, $scfg, %sensitive) = @_;
    check($scfg);
    set_password($storeid, $sensitive{password}) if exists($sensitive{password});
    return;
}

sub on_delete_hook {
    my ($class, $storeid, $scfg) = @_;
    set_password($storeid, undef);
    return;
}

# Calls

my sub call {
    my ($scfg, $storeid, $call, $args, $timeout, $log) = @_;
    check($scfg);
    my $service = PVE::BackupProvider::Plugin::Holdfast::Service->new($scfg, $storeid, $log);
    return $service->call($call, $args, $timeout);
}

sub new_backup_provider {
    my ($class, $scfg, $storeid, $log_function) = @_;
    check($scfg);
    return PVE::BackupProvider::Plugin::Holdfast->new($class, $scfg, $storeid, $log_function);
}

# Volumes: "backup/" and the name of an archive, in one of both forms.

my $TIME = qr/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z/;

sub parse_volname {
    my ($class, $volname) = @_;
    if ($volname =~ m!^backup/((vm|ct)/([1-9][0-9]{0,8})/$TIME)\z!) {
        return ('backup', $1, $3, undef, undef, undef, "pbs-$2");
    }
    if ($volname =~ m!^backup/(([1-9][0-9]{0,8})/(?:qemu|lxc)-[0-9]+)\z!) {
        return ('backup', $1, $2, undef, undef, undef, 'raw');
    }
    die "unable to parse holdfast volume name '$volname'\n";
}

sub path {
    my ($class, $scfg, $volname, $storeid, $snapname) = @_;
    die "backups have no snapshots\n" if defined($snapname);
    my ($vtype, $name, $vmid) = $class->parse_volname($volname);
    return ("holdfast:$storeid/$name", $vmid, $vtype); # for people: no file is there
}

my sub volume_item {
    my ($storeid, $e) = @_;
    my $item = {
        volid => "$storeid:backup/$e->{'archive-name'}",
        content => 'backup',
        map { $_ => $e->{$_} } qw(vmid format ctime size subtype),
    };
    for my $key (qw(notes encrypted verification)) {
        $item->{$key} = $e->{$key} if defined($e->{$key});
    }
    $item->{protected} = 1 if $e->{protected};
    $item->{parent} = "$storeid:backup/$e->{parent}" if defined($e->{parent});
    return $item;
}

sub list_volumes {
    my ($class, $storeid, $scfg, $vmid, $content_types) = @_;
    return [] if !grep { $_ eq 'backup' } $content_types->@*;
    my $args = defined($vmid) ? { vmid => int($vmid) } : {};
    my $r = call($scfg, $storeid, 'storage_list', $args, 120);
    return [map { volume_item($storeid, $_) } $r->{archives}->@*];
}

sub list_images { return []; }

sub volume_size_info {
    my ($class, $scfg, $storeid, $volname, $timeout) = @_;
    my $e = call($scfg, $storeid, 'storage_get', { volname => "$volname" }, $timeout);
    return wantarray ? ($e->{size}, $e->{format}, undef, undef) : $e->{size};
}

sub free_image {
    my ($class, $storeid, $scfg, $volname) = @_;
    $class->parse_volname($volname);
    call($scfg, $storeid, 'storage_free', { volname => "$volname" });
    return;
}

sub get_volume_attribute {
    my ($class, $scfg, $storeid, $volname, $attribute) = @_;
    return if $attribute ne 'notes' && $attribute ne 'protected';
    return call($scfg, $storeid, 'storage_get', { volname => "$volname" }, 60)->{$attribute};
}

sub update_volume_attribute {
    my ($class, $scfg, $storeid, $volname, $attribute, $value) = @_;
    my $args = { volname => "$volname" };
    if ($attribute eq 'notes') {
        $args->{notes} = $value // '';
    } elsif ($attribute eq 'protected') {
        $args->{protected} = $value ? JSON::true : JSON::false;
    } else {
        die "attribute '$attribute' is not supported for storage type '" . type() . "'\n";
    }
    call($scfg, $storeid, 'storage_update_attribute', $args, 60);
    return;
}

sub get_volume_notes {
    my ($class, $scfg, $storeid, $volname) = @_;
    return $class->get_volume_attribute($scfg, $storeid, $volname, 'notes');
}

sub update_volume_notes {
    my ($class, $scfg, $storeid, $volname, $notes) = @_;
    return $class->update_volume_attribute($scfg, $storeid, $volname, 'notes', $notes);
}

sub prune_backups {
    my ($class, $scfg, $storeid, $keep, $vmid, $type, $dryrun, $logfunc) = @_;
    $logfunc //= sub { print "$_[1]\n" };
    my $args = { keep => {}, 'dry-run' => $dryrun ? JSON::true : JSON::false };
    $args->{keep}->{$_} = int($keep->{$_}) for keys $keep->%*;
    $args->{vmid} = int($vmid) if defined($vmid);
    $args->{vmtype} = "$type" if defined($type);
    my $r = call($scfg, $storeid, 'storage_prune', $args, undef, $logfunc);
    return [
        map {
            {
                volid => "$storeid:backup/$_->{'archive-name'}",
                ctime => $_->{ctime},
                mark => $_->{mark},
                type => $_->{type},
                vmid => $_->{vmid},
            }
        } $r->{archives}->@*
    ];
}

# State

my $status = {}; # by storage: pvestatd asks every few seconds

sub status {
    my ($class, $storeid, $scfg, $cache) = @_;
    my $known = $status->{$storeid};
    if (!$known || time() - $known->{time} >= 20) {
        my $r = eval { call($scfg, $storeid, 'storage_status', {}, 2) };
        warn "$storeid: $@" if $@;
        $known = $status->{$storeid} = { time => time(), result => $r };
    }
    my $r = $known->{result} or return (0, 0, 0, 0);
    return ($r->{total}, $r->{free}, $r->{used}, 1);
}

sub check_connection {
    my ($class, $storeid, $scfg) = @_;
    return eval { call($scfg, $storeid, 'storage_status', {}, 5); 1 } ? 1 : 0;
}

sub get_identity {
    my ($class, $scfg, $storeid) = @_;
    my $id = call($scfg, $storeid, 'storage_identity', {}, 10)->{identity};
    die "this storage has no identity of its own\n" if !defined($id) || $id eq '';
    return $id;
}

sub activate_storage {
    my ($class, $storeid, $scfg, $cache) = @_;
    eval { call($scfg, $storeid, 'storage_status', {}, 10) };
    die "$storeid: $@" if $@;
    return 1;
}

sub deactivate_storage { return 1; }

sub activate_volume {
    my ($class, $storeid, $scfg, $volname, $snapname) = @_;
    die "backups have no snapshots\n" if defined($snapname);
    return 1;
}

sub deactivate_volume { return 1; }

# What a storage of backups does not have

sub create_base { die "can't create base images in holdfast storage\n"; }

sub clone_image { die "can't clone images in holdfast storage\n"; }

sub alloc_image { die "can't allocate space in holdfast storage\n"; }

1;
