// A real OpenID provider (npm oidc-provider) for the tests: everything is kept in memory, and it listens on loopback.
//
// Standard input is one JSON object: port (0: a free one), client (OpenID client metadata), people (login -> claims),
// claimsInIdToken. Its first line on standard output is its address. The page of a sign-in is a form that takes any
// login of `people`; the login "no" refuses.

import http from 'node:http';
import { text } from 'node:stream/consumers';
import { exportJWK, generateKeyPair } from 'jose';
import Provider from 'oidc-provider';

const wanted = JSON.parse(await text(process.stdin));

async function key(alg) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  return { ...(await exportJWK(privateKey)), use: 'sig' };
}

const server = http.createServer();
await new Promise((resolve) => server.listen(wanted.port, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: [wanted.client],
  jwks: { keys: [await key('RS256'), await key('ES256')] },
  cookies: { keys: ['a key that signs cookies of a test'] },
  claims: { openid: ['sub', 'groups'], profile: ['preferred_username'], email: ['email'] },
  conformIdTokenClaims: !wanted.claimsInIdToken,
  enabledJWA: { idTokenSigningAlgValues: ['RS256', 'PS256', 'ES256'] },
  features: { devInteractions: { enabled: false } },
  pkce: { required: () => true },
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id, ...wanted.people[id] }) }),
  ttl: { AccessToken: 300, AuthorizationCode: 60, Grant: 300, IdToken: 300, Interaction: 300, Session: 300 },
});

async function interact(request, response) {
  const { prompt, params, session } = await provider.interactionDetails(request, response);
  if (request.method === 'GET') {
    response.setHeader('content-type', 'text/html');
    response.end(`<form method="post" action="${request.url}"><input name="login"></form>${prompt.name}`);
    return;
  }
  const login = new URLSearchParams(await text(request)).get('login');
  let result;
  if (login === 'no') {
    result = { error: 'access_denied', error_description: 'the person said no' };
  } else if (prompt.name === 'login') {
    result = { login: { accountId: login } };
  } else {
    const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
    grant.addOIDCScope(params.scope);
    result = { consent: { grantId: await grant.save() } };
  }
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
}

const answer = provider.callback();
server.on('request', (request, response) => {
  if (!request.url.startsWith('/interaction/')) {
    answer(request, response);
    return;
  }
  interact(request, response).catch((error) => {
    response.statusCode = 500;
    response.end(String(error));
  });
});
console.log(issuer);
