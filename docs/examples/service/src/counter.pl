#!/usr/bin/perl
# counter: answers each connection with how many there were, kept in a file.
# --check asks the one that runs, --test writes and reads a number.
use strict;
use warnings;
use IO::Socket::INET;

open(my $conf, '<', '/etc/counter.conf') or die "/etc/counter.conf: $!\n";
my %settings = map { /^(\w+) = (.*)$/ } <$conf>;
my $mode = shift // '';

sub count {
    my ($file) = @_;
    my $count = 0;
    if (open(my $in, '<', $file)) { $count = <$in>; }
    open(my $out, '>', $file) or die "$file: $!\n";
    print $out ++$count;
    return $count;
}

if ($mode eq '--test') {
    my $file = "test-$$";
    my @counts = (count($file), count($file));
    unlink $file;
    die "counted @counts\n" unless "@counts" eq '1 2';
} elsif ($mode eq '--check') {
    my $asked = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $settings{port})
        or die "port $settings{port}: $!\n";
    exit(<$asked> =~ /^\d+$/ ? 0 : 1);
} else {
    $SIG{TERM} = sub { exit 0 };
    my $server = IO::Socket::INET->new(LocalPort => $settings{port}, Listen => 5, ReuseAddr => 1)
        or die "port $settings{port}: $!\n";
    while (my $client = $server->accept) {
        print $client count($settings{file}), "\n";
    }
}
