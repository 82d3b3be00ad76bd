package Job;

# A backup job in the order of Proxmox VE: PVE::VZDump, PVE::VZDump::QemuServer
# and PVE::VZDump::LXC. What machines and containers are is asked of whoever runs
# this. Before and behind every step a failure can be made.

use strict;
use warnings;

use JSON;
use PVE::Storage;

# new makes a job. fail names the place, as "before backup_vm of 100".
sub new {
    my ($class, %o) = @_;
    open(my $all, '+>', "$o{tmplog}.all") or die $!;
    return bless { all => $all, %o }, $class;
}

# log writes to an open file: what runs in a namespace is a process of its own.
sub log {
    my ($self, $level, $text) = @_;
    syswrite($self->{all}, "$level: $text\n");
}

sub lines {
    my ($self) = @_;
    open(my $fh, '<', "$self->{tmplog}.all") or return;
    return map { chomp; $_ } <$fh>;
}

# ask asks the other side, which owns the machines.
sub ask {
    my ($self, $what, $args) = @_;
    my ($to, $from) = $self->{peer}->@*;
    print $to encode_json({ what => $what, args => $args // {} }), "\n";
    my $answer = <$from> // die "the other side has gone\n";
    return decode_json($answer);
}

# step does one step. Around it the job may be made to fail.
sub step {
    my ($self, $name, $vmid, $code) = @_;
    my $place = defined($vmid) ? "$name of $vmid" : $name;
    push $self->{places}->@*, "before $place", "behind $place";
    die "made to fail before $place\n" if ($self->{fail} // '') eq "before $place";
    my @result = $code->();
    die "made to fail behind $place\n" if ($self->{fail} // '') eq "behind $place";
    return wantarray ? @result : $result[0];
}

# run is exec_backup.
sub run {
    my ($self) = @_;
    my $p = $self->{provider} = PVE::Storage::new_backup_provider($self->{cfg}, $self->{storeid}, sub { $self->log(@_) });
    eval {
        $self->step('job_init', undef, sub { $p->job_init($self->{start}) });
        for my $guest ($self->{guests}->@*) {
            $self->task($guest);
        }
        $self->step('job_cleanup', undef, sub { $p->job_cleanup() });
    };
    my $err = $@;
    if ($err) {
        eval { $p->job_cleanup() };
        $err .= "job cleanup failed - $@" if $@;
    }
    undef $p;
    delete $self->{provider};
    return $err;
}

# task is exec_backup_task.
sub task {
    my ($self, $guest) = @_;
    my ($p, $vmid, $type) = ($self->{provider}, $guest->{vmid}, $guest->{type});
    my $known_type; # not before prepare
    my $teardown;
    $self->{start}++;
    eval {
        $self->step('prepare', $vmid, sub { $known_type = $type });
        my $init = $self->step('backup_init', $vmid, sub { $p->backup_init($vmid, $type, $self->{start}) });
        my $target = $init->{'archive-name'} // die "no archive name\n";
        die "illegal characters in '$target'\n" if $target !~ m!^(${PVE::Storage::SAFE_CHAR_CLASS_RE}|/|:)+$!;
        $guest->{target} = $target;
        my $archive = $type eq 'qemu' ? \&archive_vm : \&archive_container;
        $archive->($self, $guest, \$teardown);
        my $volid = "$self->{storeid}:backup/$target";
        eval { $self->step('notes', $vmid, sub { PVE::Storage::update_volume_attribute($self->{cfg}, $volid, 'notes', "notes of $vmid") }) };
        $self->log('warn', "unable to add notes - $@") if $@;
        if ($self->{protect}) {
            $self->step('protect', $vmid, sub { PVE::Storage::update_volume_attribute($self->{cfg}, $volid, 'protected', 1) });
        }
        if ($self->{keep}) {
            $self->step('prune', $vmid, sub {
                PVE::Storage::prune_backups($self->{cfg}, $self->{storeid}, { $self->{keep}->%* }, $vmid, $type, 0, sub { $self->log(@_) });
            });
        }
        my $result = $self->step('backup_cleanup', $vmid, sub { $p->backup_cleanup($vmid, $type, 1, {}) });
        $guest->{size} = $result->{stats}->{'archive-size'} // die "no size\n";
    };
    my $err = $@;
    $teardown->() if $teardown;
    if ($err) {
        $self->log('err', "backup of $vmid failed - $err");
        $guest->{error} = $err;
        eval { $p->backup_cleanup($vmid, $known_type, 0, { error => $err }) };
        $self->log('warn', "backup cleanup failed - $@") if $@;
    }
    open(my $fh, '>', $self->{tmplog}) or die $!;
    print $fh map { "$_\n" } $self->lines();
    close($fh);
    $p->backup_handle_log_file($vmid, $self->{tmplog}); # dies into the job
    die $err if $err && $err =~ m/^interrupted by signal$/;
}

# archive_vm is archive_external of QemuServer.
sub archive_vm {
    my ($self, $guest, $teardown) = @_;
    my ($p, $vmid) = ($self->{provider}, $guest->{vmid});
    my $success = 0;
    local $SIG{INT} = local $SIG{TERM} = local $SIG{QUIT} = local $SIG{HUP} = local $SIG{PIPE} =
        sub { die "interrupted by signal\n" };
    my $mechanism = $self->step('backup_get_mechanism', $vmid, sub { $p->backup_get_mechanism($vmid, 'qemu') });
    die "mechanism '$mechanism' is not supported\n" if $mechanism ne 'nbd' && $mechanism ne 'file-handle';
    my $devices = $self->ask('sizes', { vmid => $vmid });
    my $modes = $self->step('backup_vm_query_incremental', $vmid, sub { $p->backup_vm_query_incremental($vmid, $devices) });
    for my $mode (values $modes->%*) {
        die "invalid mode '$mode'\n" if $mode !~ m/^(?:new|use|none)$/;
    }
    my $volumes = $self->step('setup', $vmid, sub {
        my $v = $self->ask('setup', { vmid => $vmid, modes => $modes, mechanism => $mechanism });
        $$teardown = sub { $self->ask('teardown', { vmid => $vmid, success => $success ? JSON::true : JSON::false }) };
        return $v;
    });
    for my $v (values $volumes->%*) {
        $self->handle($v) if $mechanism eq 'file-handle';
    }
    my $info = { 'firewall-config' => "[OPTIONS]\nenable: 1\n" };
    $info->{'bandwidth-limit'} = $self->{bwlimit} * 1024 if $self->{bwlimit};
    if (my $what = delete $guest->{kill}) {
        $self->kill_soon($what);
    }
    $self->step('backup_vm', $vmid, sub { $p->backup_vm($vmid, $guest->{config}, $volumes, $info) });
    $success = 1;
}

# handle opens what nbdfuse shows, as virtual_file_backup_prepare does.
sub handle {
    my ($self, $v) = @_;
    require IO::File;
    my ($path, $bitmap, $uri) = map { defined($_) && m/^([^']*)\z/ ? $1 : undef } delete $v->@{qw(path bitmap-name uri)};
    $v->{'file-handle'} = IO::File->new($path, Fcntl::O_RDWR() | 040000) or die "open $path: $!\n"; # O_DIRECT
    my @lines = $bitmap ? `nbdinfo '$uri' '--map=qemu:dirty-bitmap:$bitmap'` : ("0 $v->{size} 1");
    die "nbdinfo failed\n" if !@lines;
    $v->{'next-dirty-region'} = sub {
        while (defined(my $line = shift @lines)) {
            die "unexpected output from nbdinfo - $line\n" if $line !~ m/^\s*(\d+)\s*(\d+)\s*(\d+)/;
            return ($1, $2) if $3 & 1;
        }
        return;
    };
}

# archive_container is archive of LXC.
sub archive_container {
    my ($self, $guest) = @_;
    my ($p, $vmid) = ($self->{provider}, $guest->{vmid});
    my $mechanism = $self->step('backup_get_mechanism', $vmid, sub { $p->backup_get_mechanism($vmid, 'lxc') });
    die "mechanism '$mechanism' is not supported\n" if $mechanism ne 'directory';
    my $info = {
        directory => $guest->{directory},
        sources => $guest->{sources},
        'backup-user-id' => $guest->{root},
        'firewall-config' => '',
    };
    $info->{'bandwidth-limit'} = $self->{bwlimit} * 1024 if $self->{bwlimit};
    $self->step('backup_container_prepare', $vmid, sub { $p->backup_container_prepare($vmid, $info) });
    my $code = sub { $p->backup_container($vmid, $guest->{config}, $guest->{exclude}, $info) };
    if (my $what = delete $guest->{kill}) {
        $self->kill_soon($what);
    }
    $self->step('backup_container', $vmid, sub { $guest->{root} ? in_user_namespace($guest->{root}, $code) : $code->() });
}

# kill_soon kills a process of holdfast when it is at work, from another process,
# or interrupts the job.
sub kill_soon {
    my ($self, $what) = @_;
    my $interrupt = $what eq 'job' ? $$ : 0;
    $what = 'serve' if $interrupt;
    my $pid = fork() // die $!;
    return if $pid;
    for (1 .. 1000) {
        for my $dir (glob('/proc/[0-9]*')) {
            open(my $fh, '<', "$dir/cmdline") or next;
            my $line = <$fh> // next;
            next if $line !~ m/^\Q$self->{binary}\E\0provider\0\Q$what\E\0/;
            select(undef, undef, undef, 0.3); # it has begun to read
            kill('TERM', $interrupt) if $interrupt;
            kill('KILL', $1) if !$interrupt && $dir =~ m!/(\d+)$!;
            POSIX::_exit(0);
        }
        select(undef, undef, undef, 0.01);
    }
    POSIX::_exit(1);
}

# in_user_namespace is run_in_userns.
sub in_user_namespace {
    my ($root, $code) = @_;
    pipe(my $made_r, my $made_w) or die $!;
    pipe(my $mapped_r, my $mapped_w) or die $!;
    pipe(my $err_r, my $err_w) or die $!;
    my $pid = fork() // die "fork: $!\n";
    if (!$pid) {
        close($_) for $made_r, $mapped_w, $err_r;
        eval {
            my $unshare = (POSIX::uname())[4] eq 'aarch64' ? 97 : 272;
            syscall($unshare, 0x10000000 | 0x00020000) == 0 or die "unshare: $!\n"; # NEWUSER, NEWNS
            syswrite($made_w, "1");
            sysread($mapped_r, my $go, 1) or die "no map\n";
            ($(, $)) = (0, "0 0");
            ($<, $>) = (0, 0);
            $code->();
        };
        syswrite($err_w, $@) if $@;
        POSIX::_exit($@ ? 1 : 0);
    }
    close($_) for $made_w, $mapped_r, $err_w;
    sysread($made_r, my $ready, 1);
    for my $kind ('uid', 'gid') {
        open(my $fh, '>', "/proc/$pid/${kind}_map") or die "$kind map: $!\n";
        print $fh "0 $root 65536\n";
        close($fh) or die "$kind map: $!\n";
    }
    syswrite($mapped_w, "2");
    my $err = do { local $/; <$err_r> };
    waitpid($pid, 0);
    die $err if $?;
}

1;
