package PVE::BackupProvider::Plugin::Holdfast::Service;

# A running 'holdfast provider serve', which does everything. Calls go to its
# standard input and answers come from its standard output, one JSON object a
# line; see docs/guide/provider.md.
#
# When this process closes the connection, or dies, the service aborts what runs,
# releases what is open, and ends.

use strict;
use warnings;

use Fcntl qw(F_GETFD F_SETFD FD_CLOEXEC);
use IO::Select;
use JSON;
use POSIX qw(WNOHANG);
use Socket;
use Time::HiRes qw(time sleep);

our $BINARY = '/usr/bin/holdfast';
our $SECRETS = '/etc/pve/priv/storage';
our $STATE = '/run/holdfast/provider';
our $PID_FILES = '/run/qemu-server/%d.pid';

my $GRACE = 60; # seconds that a service has to release what is open

# untaint returns the text if it has the form, and dies otherwise: names and paths
# in Proxmox VE's daemons come with taint checks.
sub untaint {
    my ($what, $text, $form) = @_;
    die "$what is missing\n" if !defined($text);
    return $1 if $text =~ m/^($form)\z/;
    die "$what has an unexpected form: '$text'\n";
}

# text_of makes characters of what was read from a file, which JSON wants; bytes_of
# is its inverse. What is no UTF-8 is taken for Latin-1.
sub text_of { my ($bytes) = @_; utf8::decode($bytes); return $bytes; }
sub bytes_of { my ($text) = @_; utf8::encode($text) if defined($text); return $text; }

my $ONE_LINE = qr/[^\x00-\x1f\x7f]+/;

# password_file is where the password of a storage is kept, for root only.
sub password_file {
    my ($storeid) = @_;
    return "$SECRETS/" . untaint('storage id', $storeid, qr/[A-Za-z][A-Za-z0-9\-_.]*/) . '.pw';
}

# options are the flags for a storage of the configuration.
sub options {
    my ($scfg, $storeid) = @_;
    my @o = (
        '--storage', untaint('storage id', $storeid, qr/[A-Za-z][A-Za-z0-9\-_.]*/),
        '--state-dir', untaint('state directory', $STATE, $ONE_LINE),
        '--pid-files', untaint('pid files', $PID_FILES, $ONE_LINE),
    );
    my $add = sub {
        my ($flag, $property, $form) = @_;
        push @o, $flag, untaint($property, $scfg->{$property}, $form) if defined($scfg->{$property});
    };
    if (defined($scfg->{'hf-directory'})) {
        $add->('--directory', 'hf-directory', qr{/[^\x00-\x1f\x7f]*});
        $add->('--container-format', 'hf-lxc-mode', qr/[a-z]+/);
    } else {
        $add->('--repository', 'hf-repository', $ONE_LINE);
        $add->('--ns', 'namespace', $ONE_LINE);
        $add->('--keyfile', 'hf-keyfile', qr{/[^\x00-\x1f\x7f]*});
        $add->('--change-detection-mode', 'hf-change-detection', qr/[a-z]+/);
    }
    $add->('--mechanism', 'hf-vm-mechanism', qr/[a-z\-]+/);
    $add->('--mode', 'hf-vm-mode', qr/[a-z]+/);
    return @o;
}

# environment holds nothing of this process's: no key is used that the
# configuration does not name.
sub environment {
    my ($scfg, $storeid) = @_;
    my $env = { PATH => '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL => 'C.UTF-8' };
    my $file = password_file($storeid);
    $env->{HOLDFAST_PASSWORD_FILE} = $file if -e $file;
    $env->{HOLDFAST_FINGERPRINT} = untaint('fingerprint', $scfg->{fingerprint}, qr/[0-9A-Fa-f:]+/)
        if defined($scfg->{fingerprint});
    return $env;
}

sub new {
    my ($class, $scfg, $storeid, $log) = @_;
    return bless {
        options => [options($scfg, $storeid)],
        env => environment($scfg, $storeid),
        log => $log // sub { },
        owner => $$,
        next => 0,
    }, $class;
}

my sub inherit { # or do not
    my ($fh, $yes) = @_;
    my $flags = fcntl($fh, F_GETFD, 0) or die "fcntl: $!\n";
    $flags = $yes ? $flags & ~FD_CLOEXEC : $flags | FD_CLOEXEC;
    fcntl($fh, F_SETFD, $flags + 0) or die "fcntl: $!\n";
}

# spawn starts the program in a process group of its own: a signal for the
# caller's does not reach it.
my sub spawn {
    my ($env, $keep, @command) = @_;
    pipe(my $in, my $to) or die "pipe: $!\n";
    pipe(my $from, my $out) or die "pipe: $!\n";
    pipe(my $complaints, my $err) or die "pipe: $!\n";
    my $binary = untaint('path of holdfast', $BINARY, qr{/[^\x00-\x1f\x7f]*});
    my $pid = fork() // die "fork: $!\n";
    if (!$pid) {
        eval {
            POSIX::setpgid(0, 0);
            $SIG{$_} = 'DEFAULT' for qw(INT TERM QUIT HUP PIPE CHLD);
            POSIX::dup2(fileno($in), 0) // die "dup2: $!\n";
            POSIX::dup2(fileno($out), 1) // die "dup2: $!\n";
            POSIX::dup2(fileno($err), 2) // die "dup2: $!\n";
            inherit($keep, 1) if $keep;
            %ENV = $env->%*;
            no warnings 'exec';
            exec { $binary } $binary, @command or die "start $binary: $!\n";
        };
        syswrite($err, $@);
        POSIX::_exit(127);
    }
    close($_) for $in, $out, $err;
    return { pid => $pid, to => $to, from => $from, complaints => $complaints, buffer => '', said => '' };
}

# start starts the service, if it does not run: one that was killed costs what it
# did, and not the rest of the job.
sub start {
    my ($self) = @_;
    die "internal error: the service belongs to another process\n" if $self->{owner} != $$;
    my $child = $self->{child};
    $self->stop() if $child && ($child->{dead} || waitpid($child->{pid}, WNOHANG) != 0);
    return if $self->{child};
    socketpair(my $ours, my $theirs, AF_UNIX, SOCK_SEQPACKET, PF_UNSPEC) or die "socketpair: $!\n";
    $self->{child} = spawn(
        $self->{env}, $theirs, 'provider', 'serve', '--walk-fd', fileno($theirs), $self->{options}->@*,
    );
    close($theirs);
    $self->{walk} = $ours;
    my $hello = $self->read_line($self->{child}, time() + 60);
    my $version = eval { decode_json($hello)->{'holdfast-provider'} } // 0;
    die "holdfast speaks version $version of the protocol, want 1\n" if $version != 1;
}

my sub send_line {
    my ($child, $value) = @_;
    my $line = JSON->new->utf8->canonical->encode($value) . "\n";
    local $SIG{PIPE} = 'IGNORE';
    for (my $n = 0; $n < length($line);) {
        my $done = syswrite($child->{to}, $line, length($line) - $n, $n);
        next if !defined($done) && $!{EINTR};
        return if !defined($done); # it has ended: reading says why
        $n += $done;
    }
}

# take reads what one of both pipes has; false when it has ended.
my sub take {
    my ($self, $child, $fh) = @_;
    my $n = sysread($fh, my $bytes, 65536);
    return 1 if !defined($n) && $!{EINTR};
    return 0 if !$n;
    if ($fh == $child->{from}) {
        $child->{buffer} .= $bytes;
        return 1;
    }
    $child->{said} .= $bytes;
    while ($child->{said} =~ s/^(.*)\n//) {
        $child->{last} = $1;
        $self->{log}->('warn', $1);
    }
    return 1;
}

# read_line returns the next line of the child; the time may be undef.
sub read_line {
    my ($self, $child, $until) = @_;
    my $select = IO::Select->new($child->{from}, $child->{complaints});
    while (1) {
        return $1 if $child->{buffer} =~ s/^(.*)\n//;
        my $left = defined($until) ? $until - time() : undef;
        if (defined($left) && $left <= 0) {
            $child->{stuck} = 1;
            die "holdfast does not answer in time\n";
        }
        for my $fh ($select->can_read($left)) {
            next if take($self, $child, $fh);
            $select->remove($fh);
            next if $fh != $child->{from};
            # What it said last comes by the other pipe.
            while ($select->exists($child->{complaints}) && $select->can_read(1)) {
                last if !take($self, $child, $child->{complaints});
            }
            $child->{dead} = 1;
            my $why = $child->{last} || $child->{said} || 'it gave no reason';
            die "holdfast has ended: $why\n";
        }
    }
}

# answer waits for the answer of a request, and dies of its error. Answers of
# others, which were given up, are dropped.
sub answer {
    my ($self, $child, $id, $until) = @_;
    while (1) {
        my $a = decode_json($self->read_line($child, $until));
        if (my $l = $a->{log}) {
            $self->{log}->($l->{level}, bytes_of($l->{message}));
            next;
        }
        next if !defined($a->{id}) || $a->{id} ne $id;
        if (my $e = $a->{error}) {
            die bytes_of($e->{message}) . "\n";
        }
        return $a->{result};
    }
}

# call does a call; timeout in seconds is optional.
sub call {
    my ($self, $call, $args, $timeout) = @_;
    $self->start();
    my $id = "$$-" . $self->{next}++;
    send_line($self->{child}, { id => $id, call => $call, args => $args });
    return $self->answer($self->{child}, $id, $timeout ? time() + $timeout : undef);
}

# walk does backup_container from within the container's user namespace, in the
# forked process that Proxmox VE makes for that.
sub walk {
    my ($self, $args) = @_;
    die "internal error: backup_container without backup_container_prepare\n" if !$self->{walk};
    my $child = spawn($self->{env}, $self->{walk}, 'provider', 'walk', '--walk-fd', fileno($self->{walk}));
    my $result = eval {
        send_line($child, { id => 'walk', call => 'backup_container', args => $args });
        $self->answer($child, 'walk');
    };
    my $err = $@;
    end($child);
    die $err if $err;
    return $result;
}

# end closes the connection and waits; what does not end is killed.
sub end {
    my ($child) = @_;
    local ($?, $@, $!);
    close($child->{to});
    close($child->{from});
    my $until = time() + ($child->{stuck} ? 1 : $GRACE);
    my $killed = 0;
    while (waitpid($child->{pid}, WNOHANG) == 0) {
        if (time() > $until) {
            last if $killed;
            kill('KILL', -$child->{pid});
            ($killed, $until) = (1, time() + 5);
        }
        sleep(0.01);
    }
    close($child->{complaints});
}

# stop ends the service; a call starts it again.
sub stop {
    my ($self) = @_;
    my $child = delete $self->{child};
    delete $self->{walk};
    end($child) if $child && $self->{owner} == $$;
}

sub DESTROY {
    my ($self) = @_;
    $self->stop() if $self->{owner} == $$; # forked children have it too
}

1;
