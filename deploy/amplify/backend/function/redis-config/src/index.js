// Where is the store? The shape of the guide, without its secrets: in their place is the name of the parameter that holds
// them (`amplify update function` > Secret values), which only a role with ssm:GetParameter can read.
'use strict';

const PROVIDERS = { upstash: 'upstash', elasticache: 'elasticache', redis: 'elasticache' };

// Amplify puts the name of a secret's parameter into the environment, not the secret.
const isParameter = (value) => value.startsWith('/amplify/');

// As the sidecar chooses: what is said, else what is there. Of both, Upstash is the one for development; elsewhere it must be said.
function providerOf(env) {
  if (env.REDIS_PROVIDER) return PROVIDERS[env.REDIS_PROVIDER.toLowerCase()];
  if (env.UPSTASH_REDIS_REST_URL && env.REDIS_HOST) return env.SIDECACHE_PROFILE === 'development' ? 'upstash' : undefined;
  return env.UPSTASH_REDIS_REST_URL ? 'upstash' : env.REDIS_HOST && 'elasticache';
}

function configOf(env) {
  const problems = [];
  const needed = (name, what) => {
    if (!env[name]) problems.push(`${name}: missing; ${what}`);
    return env[name];
  };
  const secret = (name) => {
    const value = env[name];
    if (!value) problems.push(`${name}: missing; amplify update function > Secret values`);
    else if (!isParameter(value))
      problems.push(`${name}: holds the secret itself; remove it from the environment and use amplify update function > Secret values`);
    return { parameter: value };
  };

  const provider = providerOf(env);
  const config = { provider, api: env.API_BASE_URL || null };
  if (provider === 'upstash') {
    config.upstash = {
      url: needed('UPSTASH_REDIS_REST_URL', 'the console of the database shows it'),
      token: secret('UPSTASH_REDIS_REST_TOKEN'),
    };
  } else if (provider === 'elasticache') {
    config.elasticache = {
      host: needed('REDIS_HOST', 'the output StoreEndpoint of the stack names it'),
      port: Number(env.REDIS_PORT || 6379),
      username: needed('REDIS_USERNAME', 'the user of the stack, e.g. portal-sidecache'),
      password: secret('REDIS_PASSWORD'),
      tls: env.REDIS_TLS === 'true',
    };
    if (!config.elasticache.tls) problems.push('REDIS_TLS: must be true; ElastiCache is not asked in plain text');
    if (!Number.isInteger(config.elasticache.port)) problems.push(`REDIS_PORT: ${env.REDIS_PORT} is not a port such as 6379`);
  } else {
    problems.push('REDIS_PROVIDER: say which, upstash or elasticache (alias redis)');
  }
  // the lines name variables and say what to do; none repeats a value that may be a secret
  if (problems.length) throw new Error(problems.join('\n'));
  return config;
}

exports.handler = async () => configOf(process.env);
exports.configOf = configOf;
