// A certified OpenID provider (npm oidc-provider) on loopback, for tests alone: everybody is let in under the name they type.
//
//   node op.mjs            settings as one line of JSON on standard input: {port, jwks, clients, groups, audience, ttl}
//
// It prints its issuer when it listens, and ends when its standard input does.
import { once } from 'node:events';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

let text = '';
let started;
const told = new Promise((resolve) => { started = resolve; });
process.stdin.on('data', (piece) => {
  text += piece;
  if (text.includes('\n')) started(JSON.parse(text.split('\n')[0]));
});
process.stdin.on('end', () => process.exit(0));
const asked = await told;

const server = createServer();
server.listen(asked.port ?? 0, '127.0.0.1');
await once(server, 'listening');
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: asked.clients,
  jwks: asked.jwks,
  clientDefaults: { id_token_signed_response_alg: 'RS256' },
  cookies: { keys: ['only for tests'] },
  pkce: { required: () => true },
  claims: { openid: ['sub'], profile: ['name'] },
  conformIdTokenClaims: false,
  scopes: ['openid', 'offline_access', 'profile'],
  ttl: { AccessToken: asked.ttl, AuthorizationCode: 60, IdToken: 600, RefreshToken: 3600, Interaction: 600, Session: 600, Grant: 3600 },
  rotateRefreshToken: () => true,
  issueRefreshToken: async (_ctx, client, code) => client.grantTypeAllowed('refresh_token') && code.scopes.has('offline_access'),
  findAccount: async (_ctx, id) => ({ accountId: id, claims: async () => ({ sub: id, name: `${id} of the tests` }) }),
  extraTokenClaims: async (_ctx, token) => ({
    groups: asked.groups[token.accountId ?? token.clientId] ?? [],
    realm_access: { roles: asked.groups[token.accountId ?? token.clientId] ?? [] },
  }),
  loadExistingGrant: async (ctx) => {
    const { client, session } = ctx.oidc;
    const grant = new ctx.oidc.provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope('openid profile offline_access');
    grant.addResourceScope(asked.audience, '');
    await grant.save();
    return grant;
  },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => asked.audience,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: '', audience: asked.audience, accessTokenTTL: asked.ttl, accessTokenFormat: 'jwt', jwt: { sign: { alg: asked.alg ?? 'RS256' } },
      }),
    },
  },
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
});

const answer = provider.callback();
server.on('request', async (request, response) => {
  const where = new URL(request.url, issuer);
  if (where.pathname.startsWith('/interaction/')) {
    // No form: whoever opens this page with ?as=<name> is logged in under that name.
    try {
      const who = where.searchParams.get('as');
      const { prompt } = await provider.interactionDetails(request, response);
      const result = prompt.name === 'login' ? { login: { accountId: who } } : { consent: {} };
      if (who === 'nobody') {
        await provider.interactionFinished(request, response, { error: 'access_denied', error_description: 'no' });
      } else {
        await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
      }
    } catch (error) {
      response.writeHead(500).end(String(error));
    }
    return;
  }
  answer(request, response);
});
console.log(issuer);
