#!/usr/bin/perl -T

# Runs a job or a restore for the tests in Go: what to do comes as one line of
# JSON, what became of it goes to standard output. Descriptors 3 and 4 lead to the
# other side, which owns the machines.

use strict;
use warnings;

use Fcntl;
use JSON;
use POSIX ();

BEGIN { # directories of modules come with the arguments, which are the test's own
    unshift @INC, map { m/^(.*)$/ } @ARGV;
}

use Job;
use PVE::Storage;
use PVE::Storage::Custom::HoldfastPlugin;
use PVE::BackupProvider::Plugin::Holdfast::Service;

$ENV{PATH} = '/usr/sbin:/usr/bin:/sbin:/bin';
my $spec = decode_json(scalar(<STDIN>));
my $untaint = sub { $_[0] =~ m/^(.*)\z/s; $1 };

{
    no warnings 'once';
    $PVE::BackupProvider::Plugin::Holdfast::Service::BINARY = $spec->{binary};
    $PVE::BackupProvider::Plugin::Holdfast::Service::STATE = $spec->{state};
    $PVE::BackupProvider::Plugin::Holdfast::Service::PID_FILES = $spec->{pids};
    $PVE::BackupProvider::Plugin::Holdfast::Service::SECRETS = $untaint->($spec->{secrets}) if $spec->{secrets};
}
if (!eval { PVE::Storage::Plugin->lookup('holdfast') }) { # the real one finds what is installed by itself
    PVE::Storage::Custom::HoldfastPlugin->register();
}
my $scfg = { type => 'holdfast', content => { backup => 1 }, $spec->{storage}->%* };
my $cfg = { ids => { store => $scfg } };

open(my $to, '>&=', 3) or die $!;
open(my $from, '<&=', 4) or die $!;
$to->autoflush(1);

my $result = {};
if ($spec->{job}) {
    utf8::encode($_->{config}) for $spec->{job}->{guests}->@*; # they come from files
    my $job = Job->new(
        cfg => $cfg, storeid => 'store', peer => [$to, $from], tmplog => $untaint->($spec->{tmplog}), binary => $spec->{binary},
        map { $_ => $spec->{job}->{$_} } qw(start guests fail keep protect bwlimit),
    );
    $result->{error} = $job->run();
    $result->{$_} = $job->{$_} for qw(guests places);
    $result->{log} = [$job->lines()];
}
my $plugin = 'PVE::Storage::Custom::HoldfastPlugin';
if (my $call = $spec->{plugin}) {
    my ($name, @args) = $call->@*;
    $result->{plugin} = eval { [$plugin->$name(@args)] };
    $result->{error} = $@;
}
if (my $volid = $spec->{config}) {
    $result->{config} = eval { PVE::Storage::extract_vzdump_config($cfg, $volid) };
    $result->{error} = $@;
}
if (my $r = $spec->{restore}) {
    my $log = sub { push $result->{log}->@*, "$_[0]: $_[1]" };
    my $p = PVE::Storage::new_backup_provider($cfg, 'store', $log);
    $result->{error} = restore($p, $r, $result);
}
utf8::decode($result->{config}) if defined($result->{config});
print encode_json($result), "\n";

# restore is restore_external_archive, of machines and of containers.
sub restore {
    my ($p, $r, $result) = @_;
    my ($volname, $fail) = ($r->{volname}, $r->{fail} // '');
    my ($kind) = eval { ($p->restore_get_mechanism($volname, 'store'))[1] };
    return $@ if $@;
    return $kind eq 'qemu' ? restore_vm($p, $volname, $fail, $r, $result) : restore_container($p, $volname, $fail, $r, $result);
}

sub restore_vm {
    my ($p, $volname, $fail, $r, $result) = @_;
    eval {
        my ($mechanism, $type) = $p->restore_get_mechanism($volname);
        die "mechanism '$mechanism' is not supported\n" if $mechanism ne 'qemu-img' || $type ne 'qemu';
        my $devices = $p->restore_vm_init($volname);
        $result->{config} = $p->archive_get_guest_config($volname) or die "no configuration\n";
        $result->{firewall} = $p->archive_get_firewall_config($volname);
        for my $device (sort keys $devices->%*) {
            my $path = $p->restore_vm_volume_init($volname, $device, {})->{'qemu-img-path'} or die "no path\n";
            PVE::Storage::file_size_info($path, undef, 'raw', 1) if PVE::Storage->can('file_size_info');
            (stat($path))[7] == $devices->{$device}->{size} or die "$path is not what was announced\n";
            die "made to fail at the safety check\n" if $fail eq 'check';
            my $target = $untaint->("$r->{target}/$device.raw");
            eval {
                die "made to fail at the conversion\n" if $fail eq 'convert';
                system('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', $path, $target) == 0 or die "qemu-img failed\n";
            };
            my $err = $@;
            eval { $p->restore_vm_volume_cleanup($volname, $device, {}) };
            if (my $cleanup_err = $@) {
                die $cleanup_err if !$err;
            }
            die $err if $err;
            die "$path is still there\n" if -e $path;
        }
    };
    my $err = $@;
    eval { $p->restore_vm_cleanup($volname) };
    push $result->{log}->@*, "cleanup: $@" if $@;
    return $err;
}

sub restore_container {
    my ($p, $volname, $fail, $r, $result) = @_;
    eval {
        $result->{config} = $p->archive_get_guest_config($volname, 'store') or die "no configuration\n";
        my ($mechanism, $type) = $p->restore_get_mechanism($volname, 'store');
        my $info = $p->restore_container_init($volname, 'store', {});
        eval {
            die "made to fail at the extraction\n" if $fail eq 'convert';
            my @common = qw(-p --sparse --numeric-owner --acls --xattrs --xattrs-include=user.* --xattrs-include=security.capability);
            my $target = $untaint->($r->{target});
            my $source = $mechanism eq 'tar' ? $info->{'tar-path'} : undef;
            if (!defined($source)) {
                die "not a directory\n" if !-d $info->{'archive-directory'};
                $source = "$target.tar";
                system('tar', 'cpf', $source, @common, "--directory=$info->{'archive-directory'}", '.') == 0 or die "tar failed\n";
            }
            open(my $tar, '<', $source) or die "$source: $!\n"; # what is in a namespace inherits it
            Job::in_user_namespace($r->{root}, sub {
                open(STDIN, '<&', $tar) or die $!;
                system('tar', 'xpf', '-', @common, '--skip-old-files', '--anchored', '--exclude', './dev/*', '-C', $target) == 0
                    or die "tar failed\n";
            });
        };
        my $err = $@;
        eval { $p->restore_container_cleanup($volname, 'store', {}) };
        die $@ if $@ && !$err;
        die $err if $err;
    };
    return $@;
}
