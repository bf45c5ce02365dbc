<?php
// Ask bounced on its line socket, in a quarter of a second: may this address be mailed, and with which return path?
// Fail closed: without an answer, bounced_may_send throws. Fail open: bounced_may_send($address, when_unknown: true).

function bounced_ask(string $verb, string $address, string $stream, string $socket): string
{
    if (preg_match('/[\x00-\x1f\x7f]/', $address)) {
        throw new InvalidArgumentException('a control character stands in the address');
    }
    $until = microtime(true) + 0.25;
    $bounced = @stream_socket_client("unix://$socket", $code, $why, 0.25);
    if ($bounced === false || @fwrite($bounced, ($stream === '' ? $verb : "{$verb}_$stream") . " $address\n") === false) {
        return '';
    }
    $said = '';
    while (!feof($bounced) && ($left = $until - microtime(true)) > 0) {
        stream_set_timeout($bounced, 0, (int) ($left * 1e6) + 1);
        $said .= fread($bounced, 4096);
    }
    // An answer ends with the connection; a part of one is none.
    return feof($bounced) ? $said : '';
}

function bounced_may_send(string $address, string $stream = '', ?bool $when_unknown = null, string $socket = '/run/bounced/line.sock'): bool
{
    $said = bounced_ask('check', $address, $stream, $socket);
    if ($said !== 'clear' && !str_starts_with($said, 'suppressed ')) {
        return $when_unknown ?? throw new RuntimeException('the suppression list cannot be asked: ' . ($said ?: 'no answer'));
    }
    return $said === 'clear';
}

function bounced_return_path(string $address, string $stream = '', string $socket = '/run/bounced/line.sock'): string
{
    $said = bounced_ask('sign', $address, $stream, $socket);
    if (!preg_match('/^b\+\S+@\S+$/D', $said)) {
        throw new RuntimeException('no return path can be signed: ' . ($said ?: 'no answer'));
    }
    return $said;
}
