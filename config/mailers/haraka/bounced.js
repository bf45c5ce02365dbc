'use strict'
// Haraka asks bounced: refuses suppressed recipients, and signs the return path of each mail that goes out.
//
// Copy it to plugins/, name it in config/plugins before every plugin with a hook get_mx, set always_split=true in config/outbound.ini, and
// write config/bounced.ini. Without fail_closed, mail goes out unasked and unsigned while bounced is down or hung.

const net = require('node:net')

exports.register = function () {
    this.bounced = { socket: '/run/bounced/line.sock', ...this.config.get('bounced.ini', { booleans: ['-fail_closed'] }).main }
}

function ask (settings, verb, recipient, answered) {
    let said = ''
    const request = settings.stream ? `${verb}_${settings.stream}` : verb
    const socket = net.connect(settings.socket, () => socket.write(`${request} ${recipient}\n`))
    // The whole answer's limit: socket.setTimeout() would begin anew with each octet.
    const limit = setTimeout(() => socket.destroy(), 2000)
    socket.setEncoding('latin1')
    socket.on('data', (octets) => { said += octets })
    socket.on('error', () => { said = '' })
    socket.on('close', () => { clearTimeout(limit); answered(said) })
}

// A getter since Haraka 3.3, a method before.
function written (address) {
    return typeof address.address === 'function' ? address.address() : address.address
}

exports.hook_rcpt = function (next, connection, params) {
    ask(this.bounced, 'check', written(params[0]), (said) => {
        if (said.startsWith('suppressed ')) return next(DENY, `5.7.1 ${said.slice('suppressed '.length)}`)
        if (said === 'clear' || (said === '' && !this.bounced.fail_closed)) return next()
        next(DENYSOFT, '4.3.0 suppression list not available')
    })
}

exports.hook_get_mx = function (next, hmail) {
    const { mail_from: sender, rcpt_to: recipients } = hmail.todo
    const domain = this.bounced.sign_domain
    // The null sender of a bounce has no host; and no mail is signed twice, at a second try.
    if (!domain || sender.host !== domain || /^b\+[a-z2-7]{23}\+/.test(sender.user) || recipients.length !== 1) return next()
    ask(this.bounced, 'sign', written(recipients[0]), (said) => {
        if (/^b\+\S+@\S+$/.test(said)) hmail.todo.mail_from = new sender.constructor(`<${said}>`)
        else if (said !== '' || this.bounced.fail_closed) return next(DENYSOFT, 'return path cannot be signed now')
        next()
    })
}
