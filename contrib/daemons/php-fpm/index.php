<?php // Says who answers. It takes its time if it is asked to.
usleep(1000 * (int) ($_GET['delay'] ?? 0));
header('Content-Type: text/plain');
echo 'pid ', getmypid(), ' ', getenv('VERSION'), "\n";
