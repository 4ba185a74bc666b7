# Each line comes back.
use strict;
use warnings;
use Team::Server;

Team::Server::serve($ENV{PORT}, sub { return $ENV{PREFIX} . $_[0] });
