# Says who answers. It takes its time if it is asked to; NOTIFY=1: it says itself when it has been loaded.
use strict;
use warnings;
use Time::HiRes qw(sleep);

system $ENV{SEAMLESS_RUN}, 'notify', 'started' if $ENV{NOTIFY};

sub {
    my ($environment) = @_;
    sleep $1 / 1000 if $environment->{QUERY_STRING} =~ /delay=(\d+)ms/;
    my $body = "pid $$ generation $ENV{SERVER_STARTER_GENERATION}\n";
    [200, ['Content-Type' => 'text/plain', 'Content-Length' => length $body], [$body]];
};
