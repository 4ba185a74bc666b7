# Each line is answered with the time in the zone it names.
use strict;
use warnings;
use Team::Server;

open(my $file, '<', 'offsets.txt') or die "offsets.txt: $!\n";
my %offsets = map { split } <$file>;
Team::Server::serve($ENV{PORT}, sub {
    my ($zone) = $_[0] =~ /(\w+)/;
    my $offset = $offsets{$zone // ''};
    return defined $offset ? gmtime(time + 3600 * $offset) . "\n" : "unknown\n";
});
