package PVE::Storage::Plugin;

# A stand-in for the base of storage plugins: what callers may ask of every plugin
# dies here, so that a missing method shows.

use strict;
use warnings;

my $plugins = {};

sub register { my ($class) = @_; $plugins->{ $class->type() } = $class; }

sub lookup { my ($class, $type) = @_; return $plugins->{$type} // die "unknown storage type '$type'\n"; }

sub storage_has_feature {
    my ($type, $feature) = @_;
    return PVE::Storage::Plugin->lookup($type)->plugindata()->{features}->{$feature};
}

for my $name (
    qw(
    type plugindata properties options on_add_hook on_update_hook on_delete_hook
    path parse_volname list_volumes list_images status check_connection
    activate_storage deactivate_storage activate_volume deactivate_volume
    create_base clone_image alloc_image free_image prune_backups
    get_volume_attribute update_volume_attribute volume_size_info get_identity new_backup_provider
    )
) {
    no strict 'refs';
    *{$name} = sub { die "$name is missing in the plugin\n" };
}

1;
