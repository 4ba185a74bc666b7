package Team::Server;
# serve(PORT, ANSWER): each line of a connection is answered.
use strict;
use warnings;
use IO::Socket::INET;

sub serve {
    my ($port, $answer) = @_;
    my $server = IO::Socket::INET->new(LocalPort => $port, Listen => 5, ReuseAddr => 1)
        or die "port $port: $!\n";
    while (my $client = $server->accept) {
        while (my $line = <$client>) {
            print $client $answer->($line);
        }
    }
}

1;
