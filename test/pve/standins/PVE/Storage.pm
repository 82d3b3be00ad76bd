package PVE::Storage;

# A stand-in: the calls that jobs and the web interface make of a storage.

use strict;
use warnings;

use constant APIVER => $ENV{TEST_APIVER} // 15;

use PVE::Storage::Plugin;

our $SAFE_CHAR_CLASS_RE = qr/[a-zA-Z0-9\-\.\+\=\_]/;

my sub plugin_of {
    my ($cfg, $storeid) = @_;
    my $scfg = $cfg->{ids}->{$storeid} // die "no such storage '$storeid'\n";
    return (PVE::Storage::Plugin->lookup($scfg->{type}), $scfg);
}

my sub parse_volume_id {
    my ($volid) = @_;
    return ($1, $2) if $volid =~ m/^([a-z][a-z0-9\-\_\.]*[a-z0-9]):(.+)$/i;
    die "unable to parse volume ID '$volid'\n";
}

sub new_backup_provider {
    my ($cfg, $storeid, $log) = @_;
    my ($plugin, $scfg) = plugin_of($cfg, $storeid);
    return $plugin->new_backup_provider($scfg, $storeid, $log);
}

sub update_volume_attribute {
    my ($cfg, $volid, $attribute, $value) = @_;
    my ($storeid, $volname) = parse_volume_id($volid);
    my ($plugin, $scfg) = plugin_of($cfg, $storeid);
    my ($vtype, undef, $vmid) = $plugin->parse_volname($volname);
    die "no backup: $volid\n" if $vtype ne 'backup' || !$vmid;
    $plugin->get_volume_attribute($scfg, $storeid, $volname, 'protected') if $attribute eq 'protected' && $value;
    return $plugin->update_volume_attribute($scfg, $storeid, $volname, $attribute, $value);
}

sub prune_backups {
    my ($cfg, $storeid, $keep, $vmid, $type, $dryrun, $log) = @_;
    my ($plugin, $scfg) = plugin_of($cfg, $storeid);
    $plugin->activate_storage($storeid, $scfg, {});
    return $plugin->prune_backups($scfg, $storeid, $keep, $vmid, $type, $dryrun, $log);
}

# A new provider without any job, as the web interface does it.
sub extract_vzdump_config {
    my ($cfg, $volid) = @_;
    my ($storeid, $volname) = parse_volume_id($volid);
    my ($plugin, $scfg) = plugin_of($cfg, $storeid);
    return $plugin->new_backup_provider($scfg, $storeid, sub { })->archive_get_guest_config($volname, $storeid);
}

1;
