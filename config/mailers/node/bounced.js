'use strict'
// A nodemailer plugin: takes suppressed recipients from the envelope, and signs the return path of a mail to one recipient.
//
//     transport.use('stream', bounced({ sign: true, whenUnknown: 'fail' }))      // fail closed; 'send' fails open
//
// Where nobody is left, the mail fails with code ESUPPRESSED; where bounced cannot be asked, with EBOUNCED. The headers stay as they are.

const net = require('node:net')

function ask (socket, request, limit) {
    return new Promise((resolve) => {
        let said = ''
        const asking = net.connect(socket, () => asking.write(`${request}\n`))
        const timer = setTimeout(() => asking.destroy(new Error('no answer in time')), limit)
        asking.setEncoding('latin1')
        asking.on('data', (octets) => { said += octets })
        asking.on('error', () => { said = '' })
        asking.on('close', () => { clearTimeout(timer); resolve(said) })
    })
}

function fault (code, text) {
    return Object.assign(new Error(text), { code })
}

module.exports = ({ socket = '/run/bounced/line.sock', stream = '', sign = false, whenUnknown = 'fail', limit = 250 } = {}) => {
    const scope = stream ? `_${stream}` : ''
    async function taken (recipient) {
        const said = await ask(socket, `check${scope} ${recipient}`, limit)
        if (said === 'clear') return true
        if (said.startsWith('suppressed ')) return false
        if (whenUnknown === 'send') return true
        throw fault('EBOUNCED', `the suppression list cannot be asked: ${said || 'no answer'}`)
    }
    async function changed (mail) {
        const { from, to } = mail.message.getEnvelope()
        const may = await Promise.all(to.map(taken))
        const left = to.filter((_, place) => may[place])
        if (to.length > 0 && left.length === 0) throw fault('ESUPPRESSED', 'every recipient is on the suppression list')
        let sender = from
        if (sign && left.length === 1) {
            const said = await ask(socket, `sign${scope} ${left[0]}`, limit)
            if (/^b\+\S+@\S+$/.test(said)) sender = said
            else if (whenUnknown !== 'send') throw fault('EBOUNCED', `no return path can be signed: ${said || 'no answer'}`)
        }
        mail.message.setEnvelope({ from: sender, to: left })
    }
    return (mail, done) => { changed(mail).then(() => done(), done) }
}
